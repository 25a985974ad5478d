//! Writing a quantized checkpoint, one matrix at a time.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use lightglm_core::{SafetensorsWriter, StoredDtype, TensorSpec};
use lightglm_kernels::{PackedFormat, PackedSizes, Pages, ScaleDtype};

use super::{CheckpointQuantizer, HostMatrix, PackedBytes};
use crate::checkpoint::{CODES, MINIMUMS, PackedIndex, PackedMatrixEntry, SCALES, part_shapes};
use crate::{QuantError, Scheme};

impl CheckpointQuantizer<'_> {
    /// Writes `tensors` (names and shapes; what the model's configuration asks for) of the checkpoint
    /// to the safetensors file `path`, quantized as the policy says.
    ///
    /// Matrices are the two-dimensional tensors whose names end in `.weight`; all others are stored
    /// as they are. A packed matrix `name` becomes `{name}.codes`, `{name}.scales` and, where it has
    /// a zero point, `{name}.minimums`. No more than one matrix is held at a time. The file gets its
    /// name when it is complete, and nothing stays behind where it does not come to that.
    ///
    /// # Errors
    /// [`QuantError`]: as [`Self::matrix`]; [`QuantError::Policy`] for a rule that matches nothing;
    /// [`lightglm_core::WeightError::Io`] naming the file.
    pub fn save(&self, path: &Path, tensors: &[(String, Vec<usize>)]) -> Result<(), QuantError> {
        let matrix = |(name, shape): &'_ (String, Vec<usize>)| -> Option<(String, [usize; 2])> {
            let shape = <[usize; 2]>::try_from(shape.as_slice()).ok()?;
            Some((name.strip_suffix(".weight")?.to_owned(), shape))
        };
        let matrices: Vec<(String, [usize; 2])> = tensors.iter().filter_map(matrix).collect();
        self.policy.check_names(matrices.iter().map(|(name, _)| name.as_str()))?;
        let mut specs = Vec::new();
        let mut index = PackedIndex::new(self.policy);
        for (tensor, shape) in tensors {
            let matrix = matrix(&(tensor.clone(), shape.clone()));
            let scheme = match &matrix {
                Some((name, shape)) => Some(self.scheme(name, *shape)?),
                None => None,
            };
            match (matrix, scheme) {
                (Some((name, shape)), Some(scheme @ Scheme::Quantized(quantized))) => {
                    let misfit = |source| QuantError::Layer { name: name.clone(), source };
                    let format = quantized.format(shape[1]).map_err(misfit)?;
                    specs.extend(packed_specs(&name, shape, &format));
                    index.insert(name, PackedMatrixEntry { scheme, shape });
                }
                (matrix, _) => {
                    let dtype = self.tensor(tensor, shape)?.dtype.into();
                    specs.push(TensorSpec { name: tensor.clone(), dtype, shape: shape.clone() });
                    if let Some((name, shape)) = matrix {
                        index.insert(name, PackedMatrixEntry { scheme: Scheme::Dense, shape });
                    }
                }
            }
        }
        let metadata = BTreeMap::from([index.to_metadata()]);
        let mut writer = SafetensorsWriter::create(path, specs, &metadata)?;
        // Codes come right before the scales that were made with them.
        let mut waiting: HashMap<String, Pages> = HashMap::new();
        for spec in writer.order().to_vec() {
            if let Some(bytes) = waiting.remove(&spec.name) {
                writer.write(&bytes)?;
                continue;
            }
            let name =
                spec.name.strip_suffix(CODES).and_then(|name| index.entry(name).zip(Some(name)));
            match name {
                Some((&PackedMatrixEntry { shape, .. }, name)) => {
                    let HostMatrix::Packed(packed) = self.matrix(name, shape)? else {
                        unreachable!("the policy quantizes `{name}`");
                    };
                    let PackedBytes { codes, scales, minimums, .. } = packed;
                    writer.write(&codes)?;
                    waiting.insert(format!("{name}{SCALES}"), scales);
                    waiting.extend(minimums.map(|values| (format!("{name}{MINIMUMS}"), values)));
                }
                None => {
                    let view = self.tensor(&spec.name, &spec.shape)?;
                    writer.write(&view.bytes)?;
                    lightglm_kernels::page_out(&view.bytes);
                    self.advance(spec.shape.iter().product::<usize>() as u64)?;
                }
            }
        }
        Ok(writer.finish()?)
    }
}

/// The tensors of a packed matrix.
fn packed_specs(name: &str, shape: [usize; 2], format: &PackedFormat) -> Vec<TensorSpec> {
    let float = match format.scale_dtype {
        ScaleDtype::F16 | ScaleDtype::Nested => StoredDtype::F16,
        ScaleDtype::F32 => StoredDtype::F32,
    };
    let [codes, scales] = part_shapes(&PackedSizes::new(shape, format));
    let spec = |part: &str, dtype, shape: [usize; 3]| TensorSpec {
        name: format!("{name}{part}"),
        dtype,
        shape: shape.to_vec(),
    };
    let mut specs = vec![spec(CODES, StoredDtype::U8, codes), spec(SCALES, float, scales)];
    if format.has_minimums {
        specs.push(spec(MINIMUMS, float, scales));
    }
    specs
}
