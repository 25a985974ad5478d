//! Whole checkpoints of random weights on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use lightglm_core::{WeightDtype, WeightError, temporary_in};
use serde_json::{Map, json};

use super::safetensors::{SafetensorsWriter, TensorSpec};
use super::seeded::{CHUNK, SeededWeights};
use crate::config::GlmConfig;

/// Elements generated before they are written: all the memory that writing takes.
const BATCH: usize = 64 * CHUNK;

/// Writes `config.json` and the weights of [`SeededWeights`] to the folder `dir`, creating it:
/// `model.safetensors`, or, where `shard_bytes` is given and does not hold all tensors,
/// `model-00001-of-0000N.safetensors` and an index. Weights are generated as they are written, a few
/// megabytes at a time.
///
/// A checkpoint that is already in the folder is replaced.
///
/// `progress` is told the bytes written since it was last called, and may break off: nothing
/// unfinished stays behind then.
///
/// # Errors
/// [`WeightError::Io`]; with [`io::ErrorKind::Interrupted`] where `progress` broke off.
pub fn write_random_checkpoint(
    dir: impl AsRef<Path>,
    config: &GlmConfig,
    dtype: WeightDtype,
    seed: u64,
    shard_bytes: Option<u64>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), WeightError> {
    let dir = dir.as_ref();
    fs::create_dir_all(dir).map_err(|source| WeightError::Io { file: dir.into(), source })?;
    let torch_dtype = match dtype {
        WeightDtype::F32 => "float32",
        WeightDtype::F16 => "float16",
        WeightDtype::Bf16 => "bfloat16",
    };
    let config = GlmConfig { dtype: Some(torch_dtype.into()), ..config.clone() };
    let weights = SeededWeights::new(config.clone(), dtype, seed);
    let shards = split(&config, dtype, shard_bytes.unwrap_or(u64::MAX));
    let mut index = Map::new();
    let mut written = Vec::new();
    for (i, specs) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        index.extend(specs.iter().map(|spec| (spec.name.clone(), json!(name))));
        let file = dir.join(name);
        if let Err(error) = write_shard(&file, &weights, specs, progress) {
            // Shards without their index are of no use to anyone.
            written.iter().for_each(|file| drop(fs::remove_file(file)));
            return Err(error);
        }
        written.push(file);
    }
    if shards.len() > 1 {
        let total = config.num_parameters() * dtype.size() as u64;
        let index = json!({"metadata": {"total_size": total}, "weight_map": index});
        let file = dir.join("model.safetensors.index.json");
        write_text(&file, &format!("{index:#}\n"))?;
    }
    write_text(&dir.join("config.json"), &config.to_json())?;
    // What a reader would take for this checkpoint's weights, or for its index.
    let stale = if shards.len() > 1 { "model.safetensors" } else { "model.safetensors.index.json" };
    let stale = dir.join(stale);
    match fs::remove_file(&stale) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(WeightError::Io { file: stale, source })
        }
        _ => Ok(()),
    }
}

/// Tensors of one shard after the other, each filled up to `shard_bytes`, with at least one.
fn split(config: &GlmConfig, dtype: WeightDtype, shard_bytes: u64) -> Vec<Vec<TensorSpec>> {
    let mut shards: Vec<Vec<TensorSpec>> = Vec::new();
    let mut filled = u64::MAX;
    for (name, shape) in config.tensor_shapes() {
        let spec = TensorSpec { name, dtype: dtype.into(), shape };
        let bytes = spec.bytes() as u64;
        match shards.last_mut() {
            Some(shard) if filled.saturating_add(bytes) <= shard_bytes => {
                filled += bytes;
                shard.push(spec);
            }
            _ => {
                filled = bytes;
                shards.push(vec![spec]);
            }
        }
    }
    shards
}

fn write_shard(
    file: &Path,
    weights: &SeededWeights,
    specs: &[TensorSpec],
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), WeightError> {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut writer = SafetensorsWriter::create(file, specs.iter().cloned(), &metadata)?;
    let mut buffer = Vec::new();
    for spec in writer.order().to_vec() {
        let elements = spec.bytes() / spec.dtype.size();
        for first in (0..elements).step_by(BATCH) {
            buffer.resize(BATCH.min(elements - first) * spec.dtype.size(), 0);
            weights.fill(&spec.name, &spec.shape, first, &mut buffer);
            writer.write(&buffer)?;
            if progress(buffer.len() as u64).is_break() {
                let source = io::Error::from(io::ErrorKind::Interrupted);
                return Err(WeightError::Io { file: file.into(), source });
            }
        }
    }
    writer.finish()
}

fn write_text(file: &Path, text: &str) -> Result<(), WeightError> {
    let write = || -> io::Result<()> {
        let mut out = temporary_in(file.parent().unwrap_or(Path::new(".")))?;
        out.write_all(text.as_bytes())?;
        out.as_file().sync_all()?;
        out.persist(file).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| WeightError::Io { file: file.into(), source })
}
