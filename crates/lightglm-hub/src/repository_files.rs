//! Which files of a repository make a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use crate::error::HubError;
use crate::reference::HubReference;

/// Files that go with safetensors, as far as a repository has them.
const SMALL: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "added_tokens.json",
];

/// What of them is read where there is no tokenizer.json.
const WITHOUT_TOKENIZER_JSON: [&str; 2] = ["tokenizer.model", "added_tokens.json"];

/// Names the shards of a checkpoint in several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// What to fetch from a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// One file, the model itself.
    File(String),
    /// Files of a folder, the weights last: where they are, the rest is.
    Folder(Vec<String>),
    /// These files, then the shards that [`INDEX`] names.
    Indexed(Vec<String>),
}

/// Chooses among the `files` of the repository that `reference` names.
pub(crate) fn select(files: &[String], reference: &HubReference) -> Result<Selection, HubError> {
    let has = |name: &str| files.iter().any(|file| file == name);
    if let Some(wanted) = &reference.file {
        if !has(wanted) {
            let (reference, files) = (reference.clone(), files.to_vec());
            return Err(HubError::NoSuchFile { reference, files });
        }
        return Ok(Selection::File(wanted.clone()));
    }
    let mut small: Vec<String> =
        SMALL.iter().filter(|name| has(name)).map(ToString::to_string).collect();
    if has("tokenizer.json") {
        small.retain(|name| !WITHOUT_TOKENIZER_JSON.contains(&name.as_str()));
    }
    if has("config.json") && has(INDEX) {
        small.push(INDEX.to_owned());
        return Ok(Selection::Indexed(small));
    }
    // In the top folder only: others hold other precisions or adapters.
    let mut weights: Vec<String> = files
        .iter()
        .filter(|file| file.ends_with(".safetensors") && !file.contains('/'))
        .cloned()
        .collect();
    if weights.iter().any(|file| file == "model.safetensors") {
        weights = vec!["model.safetensors".to_owned()];
    }
    if has("config.json") && !weights.is_empty() {
        small.extend(weights);
        return Ok(Selection::Folder(small));
    }
    let gguf: Vec<String> = files.iter().filter(|file| file.ends_with(".gguf")).cloned().collect();
    match &gguf[..] {
        [] => Err(HubError::NoModelThere { reference: reference.clone() }),
        [only] => Ok(Selection::File(only.clone())),
        _ => Err(HubError::SeveralGgufThere { reference: reference.clone(), files: gguf }),
    }
}

/// The file that names a checkpoint's shards, as far as it matters here.
#[derive(Deserialize)]
struct Index {
    /// From a tensor to the shard it is in.
    weight_map: BTreeMap<String, String>,
}

/// The shards that an index file names.
pub(crate) fn shards(index: &Path) -> Result<BTreeSet<String>, HubError> {
    let text = std::fs::read_to_string(index)
        .map_err(|source| HubError::Read { path: index.to_owned(), source })?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|source| HubError::BadIndex { path: index.to_owned(), source })?;
    Ok(index.weight_map.into_values().collect())
}

/// Whether a name from the network stays inside of the folder it is put into.
pub(crate) fn is_inside(name: &str) -> bool {
    let mut components = Path::new(name).components();
    !name.is_empty()
        && !name.contains('\\')
        && components.all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Hub;

    fn select(files: &[&str], wanted: Option<&str>) -> Result<Selection, String> {
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        let reference = HubReference {
            hub: Hub::HuggingFace,
            repository: "a/b".into(),
            revision: "main".into(),
            file: wanted.map(str::to_owned),
        };
        super::select(&files, &reference).map_err(|error| error.to_string())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn weights_come_last() {
        let files = ["model.safetensors", "README.md", "tokenizer.json", "config.json"];
        let expected = names(&["config.json", "tokenizer.json", "model.safetensors"]);
        assert_eq!(select(&files, None), Ok(Selection::Folder(expected)));
        let files = ["model.safetensors", "tokenizer.model", "config.json"];
        let expected = names(&["config.json", "tokenizer.model", "model.safetensors"]);
        assert_eq!(select(&files, None), Ok(Selection::Folder(expected)));
        let files = ["model.safetensors", "tokenizer.model", "config.json", "tokenizer.json"];
        let expected = names(&["config.json", "tokenizer.json", "model.safetensors"]);
        assert_eq!(select(&files, None), Ok(Selection::Folder(expected)));
        let files = ["x-1.safetensors", "x-2.safetensors", INDEX, "config.json", "a.gguf"];
        assert_eq!(select(&files, None), Ok(Selection::Indexed(names(&["config.json", INDEX]))));
        let files = ["b.safetensors", "a.safetensors", "fp8/c.safetensors", "config.json"];
        let expected = names(&["config.json", "b.safetensors", "a.safetensors"]);
        assert_eq!(select(&files, None), Ok(Selection::Folder(expected)));
    }

    #[test]
    fn one_gguf_is_taken_and_several_are_a_question() {
        assert_eq!(select(&["q.gguf", "README.md"], None), Ok(Selection::File("q.gguf".into())));
        assert!(select(&["q4.gguf", "q8.gguf"], None).unwrap_err().contains("q4.gguf, q8.gguf"));
        let chosen = select(&["q4.gguf", "q8.gguf"], Some("q8.gguf"));
        assert_eq!(chosen, Ok(Selection::File("q8.gguf".into())));
        assert!(select(&["q4.gguf"], Some("q5.gguf")).unwrap_err().contains("no file `q5.gguf`"));
        assert!(select(&["config.json", "pytorch_model.bin"], None).is_err());
    }

    #[test]
    fn an_index_that_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(INDEX);
        assert!(shards(&path).unwrap_err().to_string().contains("cannot read"));
        for bad in ["{", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {"a": 1}}"#] {
            std::fs::write(&path, bad).unwrap();
            let message = shards(&path).unwrap_err().to_string();
            assert!(message.contains("is not a safetensors index"), "{bad}: {message}");
        }
    }

    #[test]
    fn names_that_leave_the_folder() {
        assert!(is_inside("a/b.gguf"));
        for bad in ["", "../a", "/a", "a/../../b", "a\\b", "."] {
            assert!(!is_inside(bad), "{bad}");
        }
    }
}
