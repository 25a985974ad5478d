//! From a name to files.

use std::path::PathBuf;

use crate::embedding_model::MINILM;
use crate::pinned::Pinned;
use crate::reference::ModelReference;
use crate::small_model::SMOLLM2;
use crate::{Hub, HubError, ResolveOptions, hugging_face, model_scope};

/// Finds the model called `name` and, where it has to, downloads it; returns a `.gguf` file or a
/// folder with `config.json` and `.safetensors` files.
///
/// `name` is a folder, a file in it, a `.gguf` file, `owner/name[@revision][:file]` on a hub,
/// [`SMALL_MODEL`](crate::SMALL_MODEL) or
/// [`DEFAULT_EMBEDDING_MODEL`](crate::DEFAULT_EMBEDDING_MODEL). What has been downloaded is not asked for again.
///
/// # Errors
/// What was tried, why it failed and what can be done about it.
pub fn resolve(name: &str, options: &ResolveOptions) -> Result<PathBuf, HubError> {
    let (offline, progress) = (options.offline, &options.progress);
    match ModelReference::parse(name, options.default_hub)? {
        ModelReference::Local(path) => Ok(path),
        ModelReference::Small => SMOLLM2.fetch(options),
        ModelReference::DefaultEmbedding => MINILM.fetch(options),
        ModelReference::Hub(reference) => match reference.hub {
            Hub::HuggingFace => {
                hugging_face::fetch(&reference, &options.hugging_face, offline, progress)
            }
            Hub::ModelScope => {
                model_scope::fetch(&reference, &options.model_scope, offline, progress)
            }
        },
    }
}
