//! What a model's name means.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::HubError;
use crate::hub::Hub;
use crate::repository_files::parts;

/// Name of a small model of general use, in English: SmolLM2-135M-Instruct in four bits, 98 MB, Apache-2.0.
pub const SMALL_MODEL: &str = "smollm2-135m-instruct";

/// Name of the embedding model: all-MiniLM-L6-v2, 91 MB, Apache-2.0. It reads English.
pub const DEFAULT_EMBEDDING_MODEL: &str = "all-minilm-l6-v2";

/// A model's name, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelReference {
    /// A `.gguf` file, or a folder with `config.json`.
    Local(PathBuf),
    /// A repository on a hub.
    Hub(HubReference),
    /// [`SMALL_MODEL`].
    Small,
    /// [`DEFAULT_EMBEDDING_MODEL`].
    DefaultEmbedding,
}

/// `[hf:|modelscope:]owner/name[@revision][:file]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubReference {
    /// Where it is.
    pub hub: Hub,
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// One file of the repository, instead of all that a model needs.
    pub file: Option<String>,
}

impl std::fmt::Display for HubReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.hub == Hub::ModelScope {
            f.write_str("modelscope:")?;
        }
        f.write_str(&self.repository)?;
        if self.revision != self.hub.default_branch() {
            write!(f, "@{}", self.revision)?;
        }
        self.file.as_ref().map_or(Ok(()), |file| write!(f, ":{file}"))
    }
}

impl ModelReference {
    /// Understands a name; `default_hub` is the one that names without a prefix mean. Looks at the
    /// disk and opens no connection.
    ///
    /// # Errors
    /// [`HubError::NotAName`] where it is no name at all, and where a file or folder of that name
    /// holds no model, or several.
    pub fn parse(name: &str, default_hub: Hub) -> Result<Self, HubError> {
        let path = Path::new(name);
        if path.exists() {
            return local(path).map(Self::Local);
        }
        if name.eq_ignore_ascii_case(SMALL_MODEL) {
            return Ok(Self::Small);
        }
        if name.eq_ignore_ascii_case(DEFAULT_EMBEDDING_MODEL) {
            return Ok(Self::DefaultEmbedding);
        }
        let reference = hub_reference(name, default_hub);
        reference.map(Self::Hub).ok_or_else(|| HubError::NotAName { name: name.to_owned() })
    }
}

fn hub_reference(name: &str, default_hub: Hub) -> Option<HubReference> {
    let (hub, name) = match name.split_once(':') {
        Some(("hf", name)) => (Hub::HuggingFace, name),
        Some(("modelscope", name)) => (Hub::ModelScope, name),
        _ => (default_hub, name),
    };
    let (model, file) = match name.split_once(':') {
        Some((model, file)) => (model, Some(file)),
        None => (name, None),
    };
    let (repository, revision) = model.split_once('@').unwrap_or((model, hub.default_branch()));
    let (owner, name) = repository.split_once('/')?;
    // The hubs' own rule for names; `.` and `..` would leave the cache's folder.
    let is_name = |part: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.chars().all(good) && !part.starts_with('.')
    };
    let good_revision = !revision.is_empty() && revision.split('/').all(is_name);
    let good_file = file.is_none_or(|file| file.split('/').all(is_name));
    // A path that was mistyped is not a repository.
    let looks_like_file =
        file.is_none() && [".gguf", ".safetensors", ".json"].iter().any(|end| model.ends_with(end));
    (is_name(owner) && is_name(name) && good_revision && good_file && !looks_like_file).then(|| {
        HubReference {
            hub,
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
        }
    })
}

/// A `.gguf` file is itself; a checkpoint's file stands for its folder; a folder with nothing but one
/// `.gguf` file stands for that, or with the files of one model for the first of them.
fn local(path: &Path) -> Result<PathBuf, HubError> {
    if !path.is_dir() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".gguf") {
            return Ok(path.to_owned());
        }
        if name.ends_with(".safetensors") || name.ends_with(".json") {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            return local(folder.unwrap_or(Path::new(".")));
        }
        return Err(HubError::NotAModelFile { path: path.to_owned() });
    }
    if path.join("config.json").exists() {
        return Ok(path.to_owned());
    }
    let unreadable = |source| HubError::Read { path: path.to_owned(), source };
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let first = |file: PathBuf| match file.file_name().and_then(|name| name.to_str()) {
        Some(name) => file.with_file_name(&parts(name)[0]),
        None => file,
    };
    let gguf = files.filter(|file| file.extension().is_some_and(|end| end == "gguf"));
    let mut gguf: BTreeSet<PathBuf> = gguf.map(first).collect();
    match (gguf.pop_first(), gguf.len()) {
        (Some(only), 0) => Ok(only),
        (Some(_), others) => {
            Err(HubError::SeveralGgufHere { path: path.to_owned(), count: others + 1 })
        }
        (None, _) => Err(HubError::NoModelHere { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub_reference(name: &str) -> Option<HubReference> {
        super::hub_reference(name, Hub::HuggingFace)
    }

    fn parse(name: &str) -> Result<ModelReference, HubError> {
        ModelReference::parse(name, Hub::HuggingFace)
    }

    #[test]
    fn names_on_the_hub() {
        let hub = |repository: &str, revision: &str, file: Option<&str>| {
            Some(HubReference {
                hub: Hub::HuggingFace,
                repository: repository.into(),
                revision: revision.into(),
                file: file.map(str::to_owned),
            })
        };
        assert_eq!(hub_reference("a/b"), hub("a/b", "main", None));
        assert_eq!(hub_reference("a/b@refs/pr/1"), hub("a/b", "refs/pr/1", None));
        assert_eq!(hub_reference("a/b-4.0:x/q.gguf"), hub("a/b-4.0", "main", Some("x/q.gguf")));
        assert_eq!(hub_reference("a/b@v1:q.gguf"), hub("a/b", "v1", Some("q.gguf")));
        for bad in [
            "",
            "a",
            "/a",
            "a/",
            "a/b/c",
            "../b",
            "a/..",
            "./a",
            "a/b@",
            "a/b:",
            "a/b@..",
            "a/b:../c",
            "a/b:/c",
            "a b/c",
            "models/x.gguf",
            "~/models",
        ] {
            assert_eq!(hub_reference(bad), None, "{bad}");
        }
        let shown = |model: &str| hub_reference(model).unwrap().to_string();
        for model in ["a/b", "a/b@v1", "a/b:q.gguf", "a/b@v1:q.gguf"] {
            assert_eq!(shown(model), model);
        }
    }

    #[test]
    fn names_on_either_hub() {
        let at = |name: &str, default| {
            let reference = super::hub_reference(name, default).unwrap();
            (reference.hub, reference.revision.clone(), reference.to_string())
        };
        let (hf, ms) = (Hub::HuggingFace, Hub::ModelScope);
        assert_eq!(at("a/b", ms), (ms, "master".into(), "modelscope:a/b".into()));
        assert_eq!(at("hf:a/b", ms), (hf, "main".into(), "a/b".into()));
        let (_, revision, shown) = at("modelscope:a/b@v1:q.gguf", hf);
        assert_eq!((&revision[..], &shown[..]), ("v1", "modelscope:a/b@v1:q.gguf"));
        for bad in ["modelscope:", "modelscope:a", "hf:hf:a/b", "other:a/b", "modelscope:../b"] {
            assert_eq!(hub_reference(bad), None, "{bad}");
        }
    }

    #[test]
    fn files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        let parsed = |path: &Path| parse(path.to_str().unwrap());
        let local = |path: &Path| ModelReference::Local(path.to_owned());
        let gguf = file("one/model.gguf");
        assert_eq!(parsed(&gguf).unwrap(), local(&gguf));
        assert_eq!(parsed(&dir.path().join("one")).unwrap(), local(&gguf));
        file("two/config.json");
        let shard = file("two/model-00001-of-00002.safetensors");
        assert_eq!(parsed(&shard).unwrap(), local(shard.parent().unwrap()));
        file("three/a.gguf");
        file("three/b.gguf");
        let error = parsed(&dir.path().join("three")).unwrap_err().to_string();
        assert!(error.contains("2 .gguf files"), "{error}");
        let error = parsed(&file("four/notes.txt")).unwrap_err().to_string();
        assert!(error.contains("neither a .gguf nor a .safetensors"), "{error}");
        let error = parsed(&dir.path().join("four")).unwrap_err().to_string();
        assert!(error.contains("neither a config.json nor a .gguf"), "{error}");
        let error = parsed(&dir.path().join("five.gguf")).unwrap_err().to_string();
        assert!(error.contains("no file or folder here"), "{error}");
    }

    #[test]
    fn the_small_model_in_any_case() {
        assert_eq!(parse("SmolLM2-135M-Instruct").unwrap(), ModelReference::Small);
    }
}
