//! `ModelFolder`, which is the library's, and a model of dense weights in one.

use std::collections::BTreeMap;
use std::path::Path;

pub use lightglm::ModelFolder;
use lightglm_core::{WeightSource, save_safetensors};
use lightglm_model::checkpoint::Checkpoint;

/// Writes `weights` as a model folder, with the text side and the configuration of `checkpoint`;
/// config.json comes last, so that an unfinished folder is no model.
///
/// # Errors
/// Where the folder cannot be written.
pub fn save(
    weights: &dyn WeightSource,
    checkpoint: &Checkpoint,
    folder: &Path,
) -> anyhow::Result<()> {
    let output = ModelFolder::begin(folder, checkpoint, None)?;
    save_safetensors(output.weights(), weights, &BTreeMap::new())?;
    Ok(output.finish()?)
}
