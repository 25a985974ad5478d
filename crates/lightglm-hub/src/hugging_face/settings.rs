//! The hub's settings, from the variables that Hugging Face's own tools read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::HubError;

/// Where the hub is, who asks, and where downloads are kept.
///
/// hf-hub's `ApiBuilder::from_env` reads `HF_HOME` and `HF_ENDPOINT` alone and has no timeouts, so
/// the other variables are read here.
///
/// Source: huggingface_hub documentation, "Environment variables".
#[derive(Clone)]
pub struct HuggingFaceSettings {
    /// Base address, without a slash at the end.
    pub endpoint: String,
    /// The folder with `models--owner--name` folders in it.
    pub cache_dir: PathBuf,
    /// Access token.
    pub token: Option<String>,
    /// Asks the hub for nothing.
    pub offline: bool,
    /// How long the hub may take to give its first answer.
    pub timeout: Duration,
}

impl HuggingFaceSettings {
    /// Settings from variables:
    ///
    /// | variable | sets | default |
    /// |---|---|---|
    /// | `HF_ENDPOINT` | the hub's address | `https://huggingface.co` |
    /// | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` | the cache | `HF_HOME/hub` |
    /// | `HF_HOME` | cache and token file | `caches/huggingface` |
    /// | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` | the token | what stands in the token file |
    /// | `HF_TOKEN_PATH` | the token file | `HF_HOME/token` |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | offline: `1`, `true`, `yes` or `on` | online |
    /// | `HF_HUB_ETAG_TIMEOUT` | seconds until the first answer | 10 |
    ///
    /// # Errors
    /// [`HubError::NoCacheFolder`] where no variable names the cache and `caches` is `None`.
    pub fn from_vars(
        var: &dyn Fn(&str) -> Option<String>,
        caches: Option<&Path>,
    ) -> Result<Self, HubError> {
        let home = var("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| caches.map(|caches| caches.join("huggingface")));
        let cache_dir = var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE"));
        let cache_dir = cache_dir.map(PathBuf::from);
        let cache_dir = cache_dir.or_else(|| home.as_ref().map(|home| home.join("hub")));
        let cache_dir = cache_dir.ok_or(HubError::NoCacheFolder { variable: "HF_HOME" })?;

        let token_file = var("HF_TOKEN_PATH").map(PathBuf::from);
        let token_file = token_file.or_else(|| home.map(|home| home.join("token")));
        let stored = || std::fs::read_to_string(token_file?).ok();
        let token = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")).or_else(stored);
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());

        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let is_set = |name: &str| {
            let value = var(name).unwrap_or_default().to_ascii_lowercase();
            ["1", "true", "yes", "on"].contains(&value.as_str())
        };
        let seconds = var("HF_HUB_ETAG_TIMEOUT").and_then(|value| value.parse().ok()).unwrap_or(10);
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache_dir,
            token,
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            timeout: Duration::from_secs(seconds),
        })
    }
}

impl std::fmt::Debug for HuggingFaceSettings {
    /// Everything but the token itself: debug output ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HuggingFaceSettings")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> HuggingFaceSettings {
        let var = |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        HuggingFaceSettings::from_vars(&var, Some(Path::new("/caches"))).unwrap()
    }

    #[test]
    fn defaults() {
        let settings = settings(&[]);
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(settings.cache_dir, Path::new("/caches/huggingface/hub"));
        assert_eq!((settings.token, settings.offline), (None, false));
    }

    #[test]
    fn every_variable_counts() {
        assert_eq!(settings(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
        assert_eq!(settings(&[("HF_HOME", "/h")]).cache_dir, Path::new("/h/hub"));
        let both = settings(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]);
        assert_eq!(both.cache_dir, Path::new("/c"));
        assert!(settings(&[("HF_HUB_OFFLINE", "YES")]).offline);
        assert!(settings(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(settings(&[("HF_HUB_ETAG_TIMEOUT", "3")]).timeout, Duration::from_secs(3));
    }

    #[test]
    fn tokens_from_variable_or_file_stay_out_of_logs() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "from-file\n").unwrap();
        let home = dir.path().to_str().unwrap();
        let token = |vars: &[(&str, &str)]| settings(vars).token;
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("from-file"));
        let both = settings(&[("HF_HOME", home), ("HF_TOKEN", "from-variable")]);
        assert_eq!(both.token.as_deref(), Some("from-variable"));
        assert!(!format!("{both:?}").contains("from-variable"));
    }
}
