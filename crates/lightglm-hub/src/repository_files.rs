//! Which files of a repository make a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use crate::error::HubError;
use crate::reference::HubReference;

/// Files that go with safetensors, as far as a repository has them.
const SMALL: [&str; 14] = [
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "quantize_config.json",
    "quant_config.json",
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
    /// The model itself in one file, or in several, of which the first stands for all.
    Gguf(Vec<String>),
    /// Files of a folder, the weights last: where they are, the rest is.
    Folder(Vec<String>),
    /// These files, then the shards that [`INDEX`] names.
    Indexed(Vec<String>),
}

/// Chooses among the `files` of the repository that `reference` names.
pub(crate) fn select(files: &[String], reference: &HubReference) -> Result<Selection, HubError> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let whole = |parts: Vec<String>| match parts.iter().find(|part| !has(part)) {
        Some(missing) => {
            let reference = HubReference { file: Some(missing.clone()), ..reference.clone() };
            Err(HubError::NoSuchFile { reference, files: files.to_vec() })
        }
        None => Ok(Selection::Gguf(parts)),
    };
    if let Some(wanted) = &reference.file {
        return whole(parts(wanted));
    }
    let mut small: Vec<String> =
        SMALL.iter().filter(|name| has(name)).map(ToString::to_string).collect();
    // Modules of sentence-transformers behind the encoder: `1_Pooling`, `2_Dense`.
    if has("modules.json") {
        small.extend(files.iter().filter(|file| is_module_file(file)).cloned());
    }
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
    // By the first of their parts, in the repository's order.
    let mut gguf: Vec<String> = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(".gguf")) {
        let first = parts(file).swap_remove(0);
        if !gguf.contains(&first) {
            gguf.push(first);
        }
    }
    match &gguf[..] {
        [] => Err(HubError::NoModelThere { reference: reference.clone() }),
        [only] => whole(parts(only)),
        _ => Err(HubError::SeveralGgufThere { reference: reference.clone(), files: gguf }),
    }
}

/// Whether a file belongs to a module of sentence-transformers, whose folder has its number in front.
fn is_module_file(file: &str) -> bool {
    let Some((folder, file)) = file.split_once('/') else { return false };
    let number = folder.split_once('_').map_or("", |(number, _)| number);
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    numbered && ["config.json", "model.safetensors"].contains(&file)
}

/// All files of the model that the file `name` belongs to, by what llama.cpp's `gguf-split` calls them:
/// `model-00001-of-00003.gguf`. Any other name stands for itself.
pub(crate) fn parts(name: &str) -> Vec<String> {
    let found = || {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (prefix, no) = rest.rsplit_once('-')?;
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() == 5);
        let (no, count) = (number(no)?, number(count)?);
        let part = |no: u32| format!("{prefix}-{no:05}-of-{count:05}.gguf");
        (1..=count).contains(&no).then(|| (1..=count).map(part).collect())
    };
    found().unwrap_or_else(|| vec![name.to_owned()])
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
    fn parts_of_a_model_are_one() {
        let all = ["x/q-00001-of-00002.gguf", "x/q-00002-of-00002.gguf"];
        let whole = Ok(Selection::Gguf(names(&all)));
        assert_eq!(select(&all, None), whole);
        assert_eq!(select(&all, Some(all[1])), whole);
        assert!(select(&all[1..], None).unwrap_err().contains("no file `x/q-00001-of-00002.gguf`"));
        let error = select(&[all[0], all[1], "y.gguf"], None).unwrap_err();
        assert!(error.contains("x/q-00001-of-00002.gguf, y.gguf"), "{error}");
        for odd in ["q-00003-of-00002.gguf", "q-1-of-2.gguf", "q-00000-of-00002.gguf"] {
            assert_eq!(parts(odd), [odd]);
        }
    }

    #[test]
    fn one_gguf_is_taken_and_several_are_a_question() {
        assert_eq!(select(&["q.gguf", "README.md"], None), Ok(Selection::Gguf(names(&["q.gguf"]))));
        assert!(select(&["q4.gguf", "q8.gguf"], None).unwrap_err().contains("q4.gguf, q8.gguf"));
        let chosen = select(&["q4.gguf", "q8.gguf"], Some("q8.gguf"));
        assert_eq!(chosen, Ok(Selection::Gguf(names(&["q8.gguf"]))));
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
