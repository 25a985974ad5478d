//! `DenseParts`: projections as a checkpoint stores them, or in another precision.

use std::path::{Path, PathBuf};

use burn::module::Param;
use lightglm_core::{
    LoadPart, PartSource, QUANTIZATION_KEY, WeightDtype, WeightError, WeightSource, checked_tensor,
};
use lightglm_kernels::LmBackend;

use super::dense_embedding::DenseEmbedding;
use super::dense_linear::DenseLinear;
use super::place::place;
use crate::config::GlmConfig;
use crate::weights::check_tensors;

/// In which precision the weights are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadPrecision {
    /// As the checkpoint stores them; block-quantized tensors become f32.
    #[default]
    Stored,
    /// Converted to this precision where stored otherwise. Norms and biases stay as they are.
    Convert(WeightDtype),
}

/// The dense parts of a checkpoint that has all of them.
pub struct DenseParts<'a> {
    source: &'a dyn WeightSource,
    file: PathBuf,
    precision: LoadPrecision,
}

impl std::fmt::Debug for DenseParts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, precision, .. } = self;
        f.debug_struct("DenseParts").field("file", file).field("precision", precision).finish()
    }
}

impl<'a> DenseParts<'a> {
    /// Those of `source`, which `file` names in errors, after checking that it has exactly the tensors
    /// that `config` describes.
    ///
    /// # Errors
    /// [`WeightError`] naming file and tensor; [`WeightError::Quantized`] for a checkpoint whose layers
    /// are packed: its parts are made by `lightglm-quant`.
    pub fn new(
        config: &GlmConfig,
        source: &'a dyn WeightSource,
        file: &Path,
        precision: LoadPrecision,
    ) -> Result<Self, WeightError> {
        let parts = Self::unchecked(source, file, precision)?;
        check_tensors(source, config, file)?;
        Ok(parts)
    }

    /// Those of a `source` that no [`GlmConfig`] describes (an encoder's).
    ///
    /// # Errors
    /// [`WeightError::Quantized`].
    pub fn unchecked(
        source: &'a dyn WeightSource,
        file: &Path,
        precision: LoadPrecision,
    ) -> Result<Self, WeightError> {
        match source.metadata(QUANTIZATION_KEY) {
            Some(_) => Err(WeightError::Quantized { file: file.to_path_buf() }),
            None => Ok(Self { source, file: file.to_path_buf(), precision }),
        }
    }

    fn matrix<B: LmBackend>(
        &self,
        part: &LoadPart,
        device: &B::Device,
    ) -> Result<burn::tensor::Tensor<B, 2>, WeightError> {
        let name = format!("{}.weight", part.name);
        let view = checked_tensor(self.source, &self.file, &name, &part.shape)?;
        let target = match self.precision {
            LoadPrecision::Stored => view.dtype,
            LoadPrecision::Convert(dtype) => dtype,
        };
        Ok(place(view, target, device))
    }
}

impl<B: LmBackend> PartSource<B> for DenseParts<'_> {
    type Linear = DenseLinear<B>;
    type Embedding = DenseEmbedding<B>;
    type Error = WeightError;

    fn linear(&self, part: &LoadPart, device: &B::Device) -> Result<Self::Linear, WeightError> {
        let bias = match part.bias {
            true => {
                let (name, shape) = (format!("{}.bias", part.name), &part.shape[..1]);
                let view = checked_tensor(self.source, &self.file, &name, shape)?;
                // In f32, so that no kernel converts it per call.
                Some(Param::from_tensor(place(view, WeightDtype::F32, device)))
            }
            false => None,
        };
        let weight = Param::from_tensor(self.matrix(part, device)?);
        Ok(DenseLinear { weight, bias })
    }

    fn embedding(
        &self,
        part: &LoadPart,
        device: &B::Device,
    ) -> Result<Self::Embedding, WeightError> {
        Ok(DenseEmbedding { weight: Param::from_tensor(self.matrix(part, device)?) })
    }

    fn weights(&self) -> (&dyn WeightSource, &Path) {
        (self.source, &self.file)
    }
}
