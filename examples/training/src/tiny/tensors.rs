//! The tensors of a model that is small enough to be held as f32, by their names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lightglm::write_whole;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Shape and values, row by row, of each.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Those of a safetensors file.
///
/// # Errors
/// Where it cannot be read, or one is not f32.
pub fn read(file: &Path) -> Result<Tensors> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let tensors =
        SafeTensors::deserialize(&bytes).with_context(|| file.display().to_string())?.tensors();
    let mut read = Tensors::new();
    for (name, tensor) in tensors {
        ensure!(tensor.dtype() == Dtype::F32, "{}: {name} is not f32", file.display());
        let values = tensor.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value));
        read.insert(name, (tensor.shape().to_vec(), values.collect()));
    }
    Ok(read)
}

/// Writes them, the whole file or nothing.
///
/// # Errors
/// Where it cannot be written, or a shape is not that of its values.
pub fn write(file: &Path, tensors: &Tensors) -> Result<()> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes: Vec<Vec<u8>> = tensors.values().map(|(_, values)| bytes(values)).collect();
    let mut views = Vec::new();
    for ((name, (shape, _)), bytes) in tensors.iter().zip(&bytes) {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    Ok(write_whole(file, safetensors::serialize(views, None)?)?)
}

/// The values of one of them.
///
/// # Errors
/// Where there is none of this name.
pub fn values<'t>(tensors: &'t mut Tensors, name: &str) -> Result<&'t mut Vec<f32>> {
    tensors.get_mut(name).map(|(_, values)| values).with_context(|| format!("no tensor {name}"))
}
