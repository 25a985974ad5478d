//! The tensors of an adapter's file, whichever of the two forms it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lightglm_core::{TensorView, WeightDtype};
use safetensors::{Dtype, SafeTensors};

use super::error::PeftError;
use super::pickle::read_pickle;
use super::{MODEL_FILE, PICKLE_FILE};

/// A tensor as the file has it.
#[derive(Clone, Debug)]
pub(super) struct AdapterTensor {
    /// The precision; the file's word for one that is not read.
    pub(super) dtype: Result<WeightDtype, String>,
    pub(super) shape: Vec<usize>,
    /// Row by row, little-endian.
    pub(super) bytes: Bytes,
}

/// Tensors by the file's names.
pub(super) type AdapterTensors = BTreeMap<String, AdapterTensor>;

impl AdapterTensor {
    /// The tensor in a precision that is read; `file` and `name` are what errors call it.
    pub(super) fn view(&self, file: &Path, name: &str) -> Result<TensorView, PeftError> {
        match &self.dtype {
            Ok(dtype) => Ok(TensorView {
                dtype: *dtype,
                shape: self.shape.clone(),
                bytes: self.bytes.clone(),
            }),
            Err(other) => Err(PeftError::tensor(file, name, format!("{other} is not read"))),
        }
    }
}

/// The file in `folder`, safetensors where there are both, and its tensors.
///
/// Read, not mapped: somebody may save the adapter anew while it is loaded.
pub(super) fn read_tensors(folder: &Path) -> Result<(PathBuf, AdapterTensors), PeftError> {
    let (safetensors, pickle) = (folder.join(MODEL_FILE), folder.join(PICKLE_FILE));
    let is_pickle = !safetensors.exists() && pickle.exists();
    let file = if is_pickle { pickle } else { safetensors };
    let bytes = fs::read(&file);
    let bytes = bytes.map_err(|source| PeftError::Io { file: file.clone(), source })?;
    let bytes = Bytes::from(bytes);
    let tensors = match is_pickle {
        true => read_pickle(&file, &bytes)?,
        false => read_safetensors(&file, &bytes)?,
    };
    Ok((file, tensors))
}

fn read_safetensors(file: &Path, bytes: &Bytes) -> Result<AdapterTensors, PeftError> {
    let tensors = SafeTensors::deserialize(bytes);
    let tensors = tensors.map_err(|error| PeftError::malformed(file, error))?;
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let dtype = match view.dtype() {
            Dtype::F32 => Ok(WeightDtype::F32),
            Dtype::F16 => Ok(WeightDtype::F16),
            Dtype::BF16 => Ok(WeightDtype::Bf16),
            other => Err(format!("{other:?}")),
        };
        let shape = view.shape().to_vec();
        // An empty tensor's bytes need not lie in the file's.
        let data = match view.data() {
            [] => Bytes::new(),
            data => bytes.slice_ref(data),
        };
        (name, AdapterTensor { dtype, shape, bytes: data })
    };
    Ok(tensors.tensors().into_iter().map(tensor).collect())
}
