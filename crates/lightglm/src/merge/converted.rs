//! Into a dense folder of this project's, from what is stored in blocks or codes.

use std::collections::BTreeMap;
use std::path::Path;

use lightglm_core::{SafetensorsWriter, TensorSpec, WeightDtype, WeightSource};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_train::lora::{Lora, MergedWeights};

use super::{DOING, MergeOptions, MergeReport, count, unties};
use crate::error::Error;
use crate::model_folder::ModelFolder;

/// Writes the weights `base` of `checkpoint` with `lora` added: matrices in the precision of `options`, all else in
/// f32.
pub(super) fn merge(
    checkpoint: &Checkpoint,
    base: &dyn WeightSource,
    lora: &Lora,
    options: &MergeOptions,
    folder: &Path,
) -> Result<MergeReport, Error> {
    let (tied, untied) = (checkpoint.config().tie_word_embeddings, unties(checkpoint, lora));
    let of_matrices = options.dtype.unwrap_or(WeightDtype::F32);
    let merged = MergedWeights::new(base, lora, tied).with_dtype(of_matrices);
    let name = match of_matrices {
        WeightDtype::F32 => "float32",
        WeightDtype::F16 => "float16",
        WeightDtype::Bf16 => "bfloat16",
    };
    let config = GlmConfig {
        tie_word_embeddings: tied && !untied,
        dtype: Some(name.to_owned()),
        ..checkpoint.config().clone()
    };
    let spec = |(name, shape): (String, Vec<usize>)| {
        let dtype = if shape.len() == 2 { of_matrices } else { WeightDtype::F32 };
        TensorSpec { name, dtype: dtype.into(), shape }
    };
    let specs: Vec<TensorSpec> = config.tensor_shapes().into_iter().map(spec).collect();
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let changed = count(&merged, &names, lora)?;
    let elements = |spec: &TensorSpec| spec.shape.iter().product::<usize>() as u64;
    let (total, bytes) = (specs.iter().map(elements).sum(), specs.iter().map(TensorSpec::bytes));
    let bytes = bytes.sum::<usize>() as u64;
    let output = ModelFolder::begin_as(folder, checkpoint, config, None)?;
    let mut writer = SafetensorsWriter::create(output.weights(), specs, &BTreeMap::new())?;
    let mut done = 0;
    for spec in writer.order().to_vec() {
        options.progress.working(DOING, done, total)?;
        writer.write(&merged.tensor(&spec.name)?.bytes)?;
        done += elements(&spec);
    }
    options.progress.working(DOING, done, total)?;
    writer.finish()?;
    output.finish()?;
    Ok(MergeReport { merged: changed, bytes, untied, requantized: None })
}
