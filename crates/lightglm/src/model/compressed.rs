//! Checkpoints that other programs quantized: what a `quantization_config` says is read first.

use std::path::Path;

use lightglm_core::python_json;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::formats::compressed_tensors::{
    CompressedTensorsCheckpoint, CompressedTensorsConfig,
};
use lightglm_quant::{QuantizedCheckpoint, Scheme};

use crate::error::Error;

/// `checkpoint` as compressed-tensors quantized it; `None` where it is dense, in every layer, a GGUF file, or quantized by
/// this project.
///
/// # Errors
/// [`Error::ForeignQuantization`] for what is not read (AWQ, GPTQ, FP8, bitsandbytes), by its name.
pub(crate) fn compressed(
    checkpoint: &Checkpoint,
) -> Result<Option<CompressedTensorsCheckpoint<'_>>, Error> {
    let (path, weights) = (checkpoint.path(), checkpoint.weights());
    if !path.is_dir() || QuantizedCheckpoint::is_one(weights) {
        return Ok(None);
    }
    let file = path.join("config.json");
    let text = std::fs::read(&file).map_err(|source| Error::Io { file: file.clone(), source })?;
    // Whether it is JSON was found out when the checkpoint was opened.
    let json = python_json(&text).unwrap_or_default();
    let config = json.get("quantization_config").filter(|value| !value.is_null());
    let config = config
        .map(CompressedTensorsConfig::from_value)
        .transpose()
        .map_err(|source| Error::ForeignQuantization { file, source: source.into() })?;
    let layers = config.map(|config| CompressedTensorsCheckpoint::new(weights, config, path));
    Ok(layers.filter(|layers| layers.layers().next().is_some()))
}

/// Whether another program quantized the checkpoint.
///
/// # Errors
/// As [`compressed`].
pub(crate) fn is_compressed(checkpoint: &Checkpoint) -> Result<bool, Error> {
    Ok(compressed(checkpoint)?.is_some())
}

/// What such weights are called: the scheme of the first layer.
pub(super) fn name_of(
    layers: &CompressedTensorsCheckpoint<'_>,
    file: &Path,
) -> Result<String, Error> {
    let first = layers.layers().next().map(|layer| layers.scheme(layer)).transpose();
    let first = first.map_err(|source| {
        let file = file.join("config.json");
        Error::ForeignQuantization { file, source: source.into() }
    })?;
    Ok(first.map_or(Scheme::Dense, Scheme::Quantized).to_string())
}
