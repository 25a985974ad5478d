//! ModelScope's settings, from the variables that its own tools read.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the hub is, who asks, and where downloads are kept.
#[derive(Clone)]
pub struct ModelScopeSettings {
    /// Base address, without a slash at the end.
    pub endpoint: String,
    /// The folder with `owner/name/revision` folders in it.
    ///
    /// Not the cache of ModelScope's own tools: theirs tells no revisions apart and keeps an index
    /// that only they can write.
    pub cache_dir: PathBuf,
    /// Access token.
    pub token: Option<String>,
    /// How long the hub may take to give its first answer.
    pub timeout: Duration,
}

impl ModelScopeSettings {
    /// Settings from variables; downloads are kept in `cache_dir/modelscope`.
    ///
    /// | variable | sets | default |
    /// |---|---|---|
    /// | `MODELSCOPE_ENDPOINT` | the hub's address | `https://` and the next |
    /// | `MODELSCOPE_DOMAIN` | its host name | `www.modelscope.cn` |
    /// | `MODELSCOPE_API_TOKEN` | the token | none |
    ///
    /// Source: ModelScope's Python package, `modelscope/hub/constants.py`.
    pub fn from_vars(var: &dyn Fn(&str) -> Option<String>, cache_dir: &Path) -> Self {
        let by_domain = || {
            let domain = var("MODELSCOPE_DOMAIN").unwrap_or_else(|| "www.modelscope.cn".to_owned());
            if domain.contains("://") { domain } else { format!("https://{domain}") }
        };
        let endpoint = var("MODELSCOPE_ENDPOINT").unwrap_or_else(by_domain);
        let token = var("MODELSCOPE_API_TOKEN").map(|token| token.trim().to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache_dir: cache_dir.join("modelscope"),
            token: token.filter(|token| !token.is_empty()),
            timeout: Duration::from_secs(10),
        }
    }
}

impl std::fmt::Debug for ModelScopeSettings {
    /// Everything but the token itself: debug output ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelScopeSettings")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> ModelScopeSettings {
        let var = |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        ModelScopeSettings::from_vars(&var, Path::new("/own"))
    }

    #[test]
    fn every_variable_counts() {
        let default = settings(&[]);
        assert_eq!(default.endpoint, "https://www.modelscope.cn");
        assert_eq!(
            (default.cache_dir.as_path(), default.token),
            (Path::new("/own/modelscope"), None)
        );
        let domain = [("MODELSCOPE_DOMAIN", "www.modelscope.ai")];
        assert_eq!(settings(&domain).endpoint, "https://www.modelscope.ai");
        let both = [("MODELSCOPE_DOMAIN", "a"), ("MODELSCOPE_ENDPOINT", "http://mirror/")];
        assert_eq!(settings(&both).endpoint, "http://mirror");
    }

    #[test]
    fn the_token_stays_out_of_logs() {
        let settings = settings(&[("MODELSCOPE_API_TOKEN", " secret\n")]);
        assert_eq!(settings.token.as_deref(), Some("secret"));
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
