//! `CheckpointQuantizer`: a checkpoint's matrices one at a time, as a policy wants them.

mod elements;
mod packed_bytes;
mod save;

pub use elements::to_f32;
pub(crate) use elements::{bias_tensor, dense_tensor, shared};
pub use packed_bytes::PackedBytes;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::module::Param;
use lightglm_core::{LoadPart, PartSource, TensorView, WeightError, WeightSource, checked_tensor};
use lightglm_kernels::{LmBackend, PackedFormat, QuantizedMatrix, page_in, page_out};

use crate::formats::{ImportedCheckpoint, StoredBlocks};
use crate::{
    MatrixWeight, Policy, QuantError, QuantizedEmbedding, QuantizedLinear, QuantizedScheme, Scheme,
    round_to_nearest,
};

/// A matrix on its way to codes.
#[derive(Clone, Copy, Debug)]
pub struct DenseMatrix<'a> {
    /// Its name without `.weight`.
    pub name: &'a str,
    /// `[N, K]`, row-major.
    pub weight: &'a [f32],
    /// `[N, K]`.
    pub shape: [usize; 2],
    /// What it is to become.
    pub scheme: QuantizedScheme,
}

/// A matrix as a policy wants it, in the host's memory.
#[derive(Clone, Debug)]
pub enum HostMatrix {
    /// As the checkpoint stores it; the bytes may be a mapped file's.
    Dense(TensorView),
    /// Packed.
    Packed(PackedBytes),
}

/// How codes are chosen, where it is not by rounding to nearest.
type Method<'a> = dyn Fn(&DenseMatrix<'_>) -> Result<QuantizedMatrix, QuantError> + 'a;

/// Told the weights done since it was last called; may break off.
type Progress<'a> = dyn Fn(u64) -> ControlFlow<()> + Sync + 'a;

/// Quantizes the matrices of a checkpoint as a policy says, one at a time, so that no more than one
/// is ever held dense.
///
/// Rounding to nearest works on blocks of rows and never holds even one whole matrix in f32; what it
/// has read of a mapped file is given back. The result does not depend on the number of threads.
pub struct CheckpointQuantizer<'a> {
    source: &'a dyn WeightSource,
    file: PathBuf,
    policy: &'a Policy,
    method: Option<&'a Method<'a>>,
    imported: Option<&'a dyn ImportedCheckpoint>,
    progress: Option<&'a Progress<'a>>,
}

impl fmt::Debug for CheckpointQuantizer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, policy, .. } = self;
        f.debug_struct("CheckpointQuantizer").field("file", file).field("policy", policy).finish()
    }
}

impl<'a> CheckpointQuantizer<'a> {
    /// For the checkpoint `source`, which `file` names in errors; rounds to nearest.
    pub fn new(source: &'a dyn WeightSource, file: &Path, policy: &'a Policy) -> Self {
        let file = file.to_owned();
        Self { source, file, policy, method: None, imported: None, progress: None }
    }

    /// With codes chosen by `method`, which sees one whole matrix at a time in f32.
    pub fn with_method(mut self, method: &'a Method<'a>) -> Self {
        self.method = Some(method);
        self
    }

    /// For a checkpoint whose layers another program has quantized: what the policy leaves as it is stored
    /// keeps their codes and scales. The source is asked for the other tensors alone.
    pub fn with_imported(mut self, checkpoint: Option<&'a dyn ImportedCheckpoint>) -> Self {
        self.imported = checkpoint;
        self
    }

    /// With `progress` told the weights done since it was last called, from any thread. Where it
    /// breaks off, the call under way ends with [`QuantError::Interrupted`].
    pub fn with_progress(mut self, progress: &'a Progress<'a>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        self.policy
    }

    /// The matrix `name` (without `.weight`) of `shape` as the policy wants it. What the policy leaves as
    /// it is stored is packed all the same where it is stored in GGUF's blocks, without loss.
    ///
    /// # Errors
    /// [`QuantError`]: the scheme does not fit, a weight is not finite, the checkpoint is at fault,
    /// the method fails or returns something else, or progress broke off.
    pub fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<HostMatrix, QuantError> {
        let scheme = match self.policy.scheme(name) {
            Scheme::Dense => {
                if let Some(layers) = self.imported.filter(|all| all.is_quantized(name)) {
                    return Ok(HostMatrix::Packed(self.pack_layer(layers, name, shape)?));
                }
                if let Some(blocks) = self.blocks(name, shape)? {
                    return Ok(HostMatrix::Packed(self.pack_blocks(name, &blocks)?));
                }
                let view = self.tensor(&format!("{name}.weight"), &shape)?;
                self.advance(view.shape.iter().product::<usize>() as u64)?;
                return Ok(HostMatrix::Dense(view));
            }
            Scheme::Quantized(scheme) => scheme,
        };
        let misfit = |source| QuantError::Layer { name: name.to_owned(), source };
        let format = scheme.format(shape[1]).map_err(misfit)?;
        // Read only now that the scheme fits.
        let view = self.tensor(&format!("{name}.weight"), &shape)?;
        let packed = match self.method {
            None => self.round(name, &view, &scheme, format)?,
            Some(method) => {
                let weight = elements::floats(&view, 0..shape[0]);
                page_out(&view.bytes);
                drop(view);
                let matrix = method(&DenseMatrix { name, weight: &weight, shape, scheme })?;
                drop(weight);
                check_format(name, shape, &format, &matrix)?;
                let packed = PackedBytes::pack(&matrix, format).map_err(misfit)?;
                self.advance((shape[0] * shape[1]) as u64)?;
                packed
            }
        };
        Ok(HostMatrix::Packed(packed))
    }

    fn round(
        &self,
        name: &str,
        view: &TensorView,
        scheme: &QuantizedScheme,
        format: PackedFormat,
    ) -> Result<PackedBytes, QuantError> {
        let shape = [view.shape[0], view.shape[1]];
        let row_bytes = shape[1] * view.dtype.size();
        // Of this, as the source may not be shared between threads.
        let (progress, file) = (self.progress, self.file.as_path());
        PackedBytes::from_rows(name, shape, format, &|rows| {
            let weight = elements::floats(view, rows.clone());
            let block = [rows.len(), shape[1]];
            let matrix = round_to_nearest(name, &weight, block, &scheme.weight);
            let matrix = matrix.map_err(|error| match error {
                QuantError::NotFinite { name, row, column, value } => {
                    QuantError::NotFinite { name, row: rows.start + row, column, value }
                }
                other => other,
            })?;
            page_out(&view.bytes[rows.start * row_bytes..rows.end * row_bytes]);
            advance(progress, file, weight.len() as u64)?;
            Ok(matrix)
        })
    }

    /// The blocks that the matrix `name` is stored in; `None` where it is stored dense.
    fn blocks(&self, name: &str, shape: [usize; 2]) -> Result<Option<StoredBlocks>, QuantError> {
        let tensor = format!("{name}.weight");
        let malformed = |reason| WeightError::Malformed {
            file: self.file.clone(),
            format: "block-quantized tensor",
            reason: format!("`{tensor}`: {reason}"),
        };
        let Some(actual) = self.source.shape(&tensor) else { return Ok(None) };
        let stored = self.source.stored_rows(&tensor)?;
        let Some(blocks) =
            StoredBlocks::new(&stored).map_err(|error| malformed(error.to_string()))?
        else {
            return Ok(None);
        };
        if actual != shape || blocks.shape() != shape {
            let (file, expected) = (self.file.clone(), shape.to_vec());
            return Err(WeightError::ShapeMismatch { file, name: tensor, expected, actual }.into());
        }
        Ok(Some(blocks))
    }

    fn pack_blocks(&self, name: &str, blocks: &StoredBlocks) -> Result<PackedBytes, QuantError> {
        let shape = blocks.shape();
        let format = blocks.scheme().format(shape[1]);
        let format =
            format.map_err(|source| QuantError::Layer { name: name.to_owned(), source })?;
        let (progress, file) = (self.progress, self.file.as_path());
        // The disk works while rows before these are packed.
        blocks.bytes_of(0..shape[0]).for_each(page_in);
        let packed = PackedBytes::from_rows(name, shape, format, &|rows| {
            let matrix = blocks.rows(rows.clone());
            // The file's pages would count as memory beside what is made of them.
            blocks.bytes_of(rows.clone()).for_each(page_out);
            advance(progress, file, (rows.len() * shape[1]) as u64)?;
            Ok(matrix)
        });
        // And those that two blocks of rows share.
        blocks.bytes_of(0..shape[0]).for_each(page_out);
        packed
    }

    fn pack_layer(
        &self,
        layers: &dyn ImportedCheckpoint,
        name: &str,
        shape: [usize; 2],
    ) -> Result<PackedBytes, QuantError> {
        let misfit = |source| QuantError::Layer { name: name.to_owned(), source };
        let format = layers.scheme(name)?.format(shape[1]).map_err(misfit)?;
        let matrix = layers.layer(name)?.matrix;
        if matrix.shape != shape {
            let (file, expected, actual) =
                (self.file.clone(), shape.to_vec(), matrix.shape.to_vec());
            let name = format!("{name}.weight");
            return Err(WeightError::ShapeMismatch { file, name, expected, actual }.into());
        }
        let packed = PackedBytes::pack(&matrix, format).map_err(misfit)?;
        self.advance((shape[0] * shape[1]) as u64)?;
        Ok(packed)
    }

    /// What the matrix `name` of `shape` becomes: what the policy says, and where that leaves it as it is
    /// stored, the scheme of its blocks.
    ///
    /// # Errors
    /// Where the checkpoint is at fault.
    pub fn scheme(&self, name: &str, shape: [usize; 2]) -> Result<Scheme, QuantError> {
        Ok(match self.policy.scheme(name) {
            Scheme::Dense => match self.imported.filter(|all| all.is_quantized(name)) {
                Some(layers) => Scheme::Quantized(layers.scheme(name)?),
                None => match self.blocks(name, shape)? {
                    Some(blocks) => Scheme::Quantized(blocks.scheme()),
                    None => Scheme::Dense,
                },
            },
            quantized => quantized,
        })
    }

    fn weight<B: LmBackend>(
        &self,
        name: &str,
        shape: [usize; 2],
        device: &B::Device,
    ) -> Result<MatrixWeight<B>, QuantError> {
        match self.matrix(name, shape)? {
            HostMatrix::Dense(view) => {
                Ok(MatrixWeight::Dense(Param::from_tensor(dense_tensor::<B, 2>(view, device))))
            }
            HostMatrix::Packed(packed) => match packed.into_matrix(device) {
                Ok(matrix) => Ok(MatrixWeight::Packed(matrix)),
                Err(source) => Err(QuantError::Layer { name: name.to_owned(), source }),
            },
        }
    }

    fn bias<B: LmBackend>(
        &self,
        name: &str,
        n: usize,
        device: &B::Device,
    ) -> Result<Param<burn::tensor::Tensor<B, 1>>, QuantError> {
        let view = self.tensor(&format!("{name}.bias"), &[n])?;
        Ok(Param::from_tensor(elements::bias_tensor(&view, device)))
    }

    /// The source's tensor `name`, which must have `shape`.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorView, WeightError> {
        checked_tensor(self.source, &self.file, name, shape)
    }

    /// Reports `weights` as done.
    fn advance(&self, weights: u64) -> Result<(), QuantError> {
        advance(self.progress, &self.file, weights)
    }
}

impl<B: LmBackend> PartSource<B> for CheckpointQuantizer<'_> {
    type Linear = QuantizedLinear<B>;
    type Embedding = QuantizedEmbedding<B>;
    type Error = QuantError;

    fn linear(&self, part: &LoadPart, device: &B::Device) -> Result<Self::Linear, QuantError> {
        let LoadPart { name, shape, bias } = part;
        let bias = match bias {
            true => Some(self.bias::<B>(name, shape[0], device)?),
            false => None,
        };
        Ok(QuantizedLinear { weight: self.weight(name, *shape, device)?, bias })
    }

    fn embedding(
        &self,
        part: &LoadPart,
        device: &B::Device,
    ) -> Result<Self::Embedding, QuantError> {
        Ok(QuantizedEmbedding { weight: self.weight(&part.name, part.shape, device)? })
    }

    fn weights(&self) -> (&dyn WeightSource, &Path) {
        (self.source, &self.file)
    }
}

fn advance(progress: Option<&Progress<'_>>, file: &Path, weights: u64) -> Result<(), QuantError> {
    match progress.map(|progress| progress(weights)) {
        Some(ControlFlow::Break(())) => Err(QuantError::Interrupted { file: file.to_owned() }),
        _ => Ok(()),
    }
}

fn check_format(
    name: &str,
    shape: [usize; 2],
    format: &PackedFormat,
    matrix: &QuantizedMatrix,
) -> Result<(), QuantError> {
    let describe = |shape: [usize; 2], bits: usize, group: usize, minimums: bool| {
        let minimums = if minimums { ", minimums" } else { "" };
        format!("{shape:?} in {bits} bits, groups of {group}{minimums}")
    };
    let group = matrix.group_size.min(matrix.shape[1].max(1));
    let minimums = matrix.minimums.is_some();
    let actual = describe(matrix.shape, matrix.bits.count(), group, minimums);
    let expected = describe(shape, format.bits.count(), format.group_size, format.has_minimums);
    match actual == expected {
        true => Ok(()),
        false => Err(QuantError::OtherFormat { name: name.to_owned(), expected, actual }),
    }
}
