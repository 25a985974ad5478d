//! Models by name: a path, a repository on the Hugging Face hub, or nothing at all.
//!
//! ```no_run
//! use lightglm_examples::models::{DEFAULT_MODEL, ResolveOptions, resolve};
//! let options = ResolveOptions::from_env()?;
//! let default = resolve(DEFAULT_MODEL, &options)?; // a .gguf file
//! let glm = resolve("THUDM/GLM-4-9B-0414", &options)?; // a folder of safetensors
//! # anyhow::Ok(())
//! ```

mod default_model;
#[cfg(test)]
mod default_model_tests;
#[cfg(test)]
mod fake_hub;
mod hub;
mod hub_failure;
mod hub_settings;
#[cfg(test)]
mod hub_tests;
mod progress;
mod pypi;
mod reference;
mod repository_files;
mod sha256;

use std::path::PathBuf;

use anyhow::{Context, Result};

pub use default_model::DEFAULT_MODEL;
pub use hub_settings::HubSettings;
pub use pypi::PipCommand;
pub use reference::{HubReference, ModelReference};

/// Where models may come from, and where they are kept.
#[derive(Clone, Debug)]
pub struct ResolveOptions {
    /// Uses what is there and opens no connection at all.
    pub offline: bool,
    /// Shows progress bars on stderr.
    pub progress: bool,
    /// The hub and its cache.
    pub hub: HubSettings,
    /// Folder for what does not come from the hub.
    pub cache_dir: PathBuf,
    /// Ways to start pip; the first that exists is used.
    pub pip: Vec<PipCommand>,
}

impl ResolveOptions {
    /// Options as the environment sets them: the hub's variables (see [`HubSettings::from_vars`]) and
    /// `LIGHTGLM_CACHE`, else `XDG_CACHE_HOME/lightglm`, else `~/.cache/lightglm`.
    ///
    /// # Errors
    /// Where no variable names a cache folder and there is no home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    /// [`ResolveOptions::from_env`] with the variables and the home folder as arguments.
    ///
    /// # Errors
    /// As `from_env`.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Result<Self> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let caches = match (var("XDG_CACHE_HOME"), home) {
            (Some(folder), _) => Some(PathBuf::from(folder)),
            (None, home) => home.map(|home| home.join(".cache")),
        };
        let own = var("LIGHTGLM_CACHE").map(PathBuf::from);
        let own = own.or_else(|| caches.as_ref().map(|caches| caches.join("lightglm")));
        let hub = HubSettings::from_vars(&var, caches.as_deref())?;
        let cache_dir =
            own.context("there is no home folder: set LIGHTGLM_CACHE to a folder for models")?;
        let pip = PipCommand::usual();
        Ok(Self { offline: false, progress: true, hub, cache_dir, pip })
    }
}

/// Finds `model` and, where it has to, downloads it; returns a `.gguf` file or a folder with
/// `config.json` and `.safetensors` files.
///
/// `model` is a folder, a file in it, a `.gguf` file, `owner/name[@revision][:file]` on the hub, or
/// [`DEFAULT_MODEL`]. What has been downloaded is not asked for again.
///
/// # Errors
/// What was tried, why it failed and what can be done about it.
pub fn resolve(model: &str, options: &ResolveOptions) -> Result<PathBuf> {
    match reference::parse(model)? {
        ModelReference::Local(path) => Ok(path),
        ModelReference::Hub(reference) => hub::fetch(&reference, options),
        ModelReference::Default => default_model::SMOLLM2.fetch(options),
    }
}
