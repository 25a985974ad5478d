//! The model that is compiled in, as a folder.

use std::env;
use std::path::{Path, PathBuf};

use lightglm_tiny::{NAME, unpack};

use crate::error::Error;

/// The folder of the embedded model where `model` names it, in any case.
pub(crate) fn locate(model: &Path) -> Result<Option<PathBuf>, Error> {
    if !model.to_str().is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
        return Ok(None);
    }
    // A service may have no home, or one that is read only; the temporary folder is there for such.
    let folders = cache_folders(|name| env::var(name).ok(), env::home_dir());
    let mut failed = None;
    for folder in folders.into_iter().chain([env::temp_dir().join("lightglm")]) {
        match unpack(&folder.join("models")) {
            Ok(folder) => return Ok(Some(folder)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), |error| Err(error.into()))
}

/// Where caches are, as `lightglm-hub` has it: `LIGHTGLM_CACHE`, else the user's cache folder.
fn cache_folders(var: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let var = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = var("XDG_CACHE_HOME").or_else(|| home.map(|home| home.join(".cache")));
    let own = var("LIGHTGLM_CACHE").or_else(|| caches.map(|caches| caches.join("lightglm")));
    own.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_by_variable_and_by_home() {
        let home = || Some(PathBuf::from("/h"));
        assert_eq!(cache_folders(|_| None, home()), [PathBuf::from("/h/.cache/lightglm")]);
        assert!(cache_folders(|_| None, None).is_empty());
        let own = |name: &str| (name == "LIGHTGLM_CACHE").then(|| "/l".to_owned());
        assert_eq!(cache_folders(own, home()), [PathBuf::from("/l")]);
        let xdg = |name: &str| (name == "XDG_CACHE_HOME").then(|| "/x".to_owned());
        assert_eq!(cache_folders(xdg, home()), [PathBuf::from("/x/lightglm")]);
    }

    #[test]
    fn other_names_are_not_the_embedded_models() {
        assert!(locate(Path::new("lightglm-huge")).unwrap().is_none());
        assert!(locate(Path::new("LightGLM-tiny")).unwrap().is_some());
    }
}
