//! `QuantizedCheckpoint`: layers out of a quantized file, mapped.

use std::path::{Path, PathBuf};

use burn::module::Param;
use bytes::Bytes;
use lightglm_core::{
    LoadPart, PartSource, QUANTIZATION_KEY, StoredTensor, WeightError, WeightSource, checked_tensor,
};
use lightglm_kernels::{LmBackend, PackedMatrix, PackedSizes, ScaleDtype};

use super::{CODES, MINIMUMS, PackedFileError, PackedIndex, SCALES, part_shapes};
use crate::quantizer::{bias_tensor, dense_tensor, shared};
use crate::{
    Footprint, MatrixWeight, QuantError, QuantizedEmbedding, QuantizedLinear, QuantizedScheme,
    Scheme,
};

/// A quantized checkpoint. On the CPU its layers are views of the mapped file: nothing is read,
/// copied or repacked before it is used.
pub struct QuantizedCheckpoint<'a> {
    source: &'a dyn WeightSource,
    file: PathBuf,
    index: PackedIndex,
}

impl std::fmt::Debug for QuantizedCheckpoint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizedCheckpoint").field("file", &self.file).finish_non_exhaustive()
    }
}

impl<'a> QuantizedCheckpoint<'a> {
    /// Whether `source` says of itself that it is one; it may still be malformed.
    pub fn is_one(source: &dyn WeightSource) -> bool {
        source.metadata(QUANTIZATION_KEY).is_some()
    }

    /// Opens `source`, which `file` names in errors.
    ///
    /// # Errors
    /// [`PackedFileError`]: not quantized, another version, a malformed index.
    pub fn open(source: &'a dyn WeightSource, file: &Path) -> Result<Self, QuantError> {
        let Some(json) = source.metadata(QUANTIZATION_KEY) else {
            return Err(PackedFileError::NotQuantized { file: file.to_owned() }.into());
        };
        let index = PackedIndex::from_json(&json, file)?;
        Ok(Self { source, file: file.to_owned(), index })
    }

    /// What the checkpoint says about itself.
    pub fn index(&self) -> &PackedIndex {
        &self.index
    }

    /// Weights and bytes of all matrices.
    ///
    /// # Errors
    /// [`QuantError`] for a dense matrix that is missing or malformed.
    pub fn footprint(&self) -> Result<Footprint, QuantError> {
        let mut total = Footprint::default();
        for (name, entry) in self.index.matrices() {
            let bits = match entry.scheme {
                Scheme::Dense => {
                    let view = self.source.tensor(&format!("{name}.weight"))?;
                    view.dtype.size() as u64 * 8
                }
                Scheme::Quantized(_) => 0,
            };
            let one = Footprint::of(name, entry.shape, entry.scheme, bits)?;
            total.weights += one.weights;
            total.bytes += one.bytes;
        }
        Ok(total)
    }

    fn weight<B: LmBackend>(
        &self,
        name: &str,
        shape: [usize; 2],
        device: &B::Device,
    ) -> Result<MatrixWeight<B>, QuantError> {
        let Some(entry) = self.index.entry(name) else {
            let reason = "the model asks for it and the index does not have it".to_owned();
            return Err(self.matrix_error(name, reason));
        };
        if entry.shape != shape {
            let [actual, expected] = [entry.shape, shape];
            let reason =
                format!("shape {actual:?} in the index, {expected:?} in the configuration");
            return Err(self.matrix_error(name, reason));
        }
        match entry.scheme {
            Scheme::Dense => {
                let name = format!("{name}.weight");
                let view = checked_tensor(self.source, &self.file, &name, &shape)?;
                Ok(MatrixWeight::Dense(Param::from_tensor(dense_tensor::<B, 2>(view, device))))
            }
            Scheme::Quantized(scheme) => {
                Ok(MatrixWeight::Packed(self.packed(name, shape, scheme, device)?))
            }
        }
    }

    fn packed<B: LmBackend>(
        &self,
        name: &str,
        shape: [usize; 2],
        scheme: QuantizedScheme,
        device: &B::Device,
    ) -> Result<PackedMatrix<B>, QuantError> {
        let misfit = |source| {
            let (file, name) = (self.file.clone(), name.to_owned());
            QuantError::from(PackedFileError::Pack { file, name, source })
        };
        let format = scheme.format(shape[1]).map_err(misfit)?;
        let [codes, scales] = part_shapes(&PackedSizes::new(shape, &format));
        let (float, size) = match format.scale_dtype {
            ScaleDtype::F16 | ScaleDtype::Nested => ("F16", 2),
            ScaleDtype::F32 => ("F32", 4),
        };
        let codes = self.part(name, CODES, "U8", 1, codes)?;
        let floats =
            |part| Ok::<_, QuantError>(shared(self.part(name, part, float, size, scales)?, size));
        let (scales, minimums) = match format.has_minimums {
            true => (floats(SCALES)?, Some(floats(MINIMUMS)?)),
            false => (floats(SCALES)?, None),
        };
        PackedMatrix::from_bytes(shape, format, shared(codes, 1), scales, minimums, device)
            .map_err(misfit)
    }

    /// The bytes of the tensor `{name}{part}`, which must have this type and shape.
    fn part(
        &self,
        name: &str,
        part: &str,
        dtype: &str,
        size: usize,
        shape: [usize; 3],
    ) -> Result<Bytes, QuantError> {
        let tensor = format!("{name}{part}");
        if self.source.shape(&tensor).is_none() {
            return Err(WeightError::Missing { file: self.file.clone(), name: tensor }.into());
        }
        let StoredTensor { dtype: actual_dtype, shape: actual, parts } =
            self.source.stored(&tensor)?;
        let bytes = shape.iter().product::<usize>() * size;
        match <[Bytes; 1]>::try_from(parts) {
            Ok([one]) if actual_dtype == dtype && actual == shape && one.len() == bytes => Ok(one),
            _ => Err(PackedFileError::Part {
                file: self.file.clone(),
                tensor,
                expected: format!("{dtype} of shape {shape:?}"),
                actual: format!("{actual_dtype} of shape {actual:?}"),
            }
            .into()),
        }
    }

    fn matrix_error(&self, name: &str, reason: String) -> QuantError {
        let (file, name) = (self.file.clone(), name.to_owned());
        PackedFileError::Matrix { file, name, reason }.into()
    }
}

impl<B: LmBackend> PartSource<B> for QuantizedCheckpoint<'_> {
    type Linear = QuantizedLinear<B>;
    type Embedding = QuantizedEmbedding<B>;
    type Error = QuantError;

    fn linear(&self, part: &LoadPart, device: &B::Device) -> Result<Self::Linear, QuantError> {
        let LoadPart { name, shape, bias } = part;
        let bias = match bias {
            true => {
                let name = format!("{name}.bias");
                let view = checked_tensor(self.source, &self.file, &name, &shape[..1])?;
                Some(Param::from_tensor(bias_tensor(&view, device)))
            }
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
