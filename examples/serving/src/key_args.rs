//! `KeyArgs`: who may use a server.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lightglm::ServerOptions;
use lightglm::server::{KeyDigest, Tenant, Tenants};

/// Who may use a server.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Keys")]
pub struct KeyArgs {
    /// A key that may do everything (may be given several times).
    #[arg(
        long = "api-key",
        value_name = "KEY",
        env = "LIGHTGLM_API_KEYS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub api_keys: Vec<String>,
    /// A file of such keys, one a line.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// A file of keys with names, roles and quotas (TOML); read anew on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Serve other machines without a key.
    #[arg(long)]
    pub without_key: bool,
    /// Serve nothing: make a key, and print it and its entry in a keys file.
    #[arg(long, value_name = "NAME")]
    pub new_key: Option<String>,
}

impl KeyArgs {
    /// Puts the keys into a server's options.
    ///
    /// # Errors
    /// Where a file cannot be read, or an entry is wrong.
    pub fn apply(&self, options: &mut ServerOptions) -> Result<()> {
        // As they are compared: a secret's file often ends with a line break.
        options.api_keys = self.api_keys.iter().map(|key| key.trim().to_owned()).collect();
        if let Some(path) = &self.api_key_file {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("api-key-file {}", path.display()))?;
            let keys = text.lines().map(str::trim).filter(|key| !key.is_empty());
            let before = options.api_keys.len();
            options.api_keys.extend(keys.map(str::to_owned));
            let found = options.api_keys.len() > before;
            ensure!(found, "api-key-file {}: there is no key in it", path.display());
        }
        if let Some(path) = &self.keys {
            options.tenants = Tenants::from_file(path)?;
        }
        Ok(())
    }
}

/// A new key, and its entry in a keys file.
///
/// # Errors
/// Where the name is none that an entry can have, and where the system gives no random bytes.
pub fn new_key(name: &str) -> Result<(String, String)> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("sk-{hex}");
    let digest = KeyDigest::of(&key);
    Tenants::new(vec![Tenant::new(name, digest)])?;
    let entry = format!("[[key]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nrole = \"user\"\n");
    Ok((key, entry))
}

/// Reads the keys file anew whenever the process gets a SIGHUP; one that is wrong changes nothing.
#[cfg(unix)]
pub async fn reload_on_hangup(tenants: Tenants, path: PathBuf) {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::error!(%error, "keys are not read anew on SIGHUP"),
    };
    while hangup.recv().await.is_some() {
        match tenants.reload(&path) {
            Ok(()) => tracing::info!(keys = tenants.len(), "keys file read anew"),
            Err(error) => tracing::error!(%error, "keys file refused, the old keys hold"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_fits_its_entry() {
        let (key, entry) = new_key("support").unwrap();
        let (other, _) = new_key("support").unwrap();
        assert!(key != other && key.len() == 67, "{key}");
        assert!(entry.contains(&KeyDigest::of(&key).to_string()) && !entry.contains(&key));
        assert!(new_key("a b").is_err() && new_key("").is_err() && new_key("a\"b").is_err());
        let path = std::env::temp_dir().join(format!("new-key-{}.toml", std::process::id()));
        std::fs::write(&path, &entry).unwrap();
        assert_eq!(Tenants::from_file(&path).unwrap().len(), 1);
        std::fs::remove_file(path).unwrap();
    }
}
