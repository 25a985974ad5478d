//! Opening checkpoints by path or, with the feature `hub`, by name.

use std::path::Path;

use lightglm_model::checkpoint::Checkpoint;

use crate::error::Error;

/// Opens a folder or a `.gguf` file; with the feature `hub` also a hub id or
/// `DEFAULT_MODEL`. Headers are read, weights are not.
///
/// # Errors
/// Where there is no such model, or its configuration or headers are malformed.
pub fn open(model: impl AsRef<Path>) -> Result<Checkpoint, Error> {
    Ok(Checkpoint::open(model.as_ref())?)
}
