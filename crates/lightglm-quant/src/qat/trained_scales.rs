//! `TrainedScales`: learned scales by name, for files. Shapes: `N` out_features, `K` in_features,
//! `G` groups of a row.

use std::collections::BTreeMap;

use lightglm_kernels::{PackingError, QuantizedMatrix};

use crate::round_to_nearest::code;
use crate::{DenseMatrix, QuantError, WeightScheme, round_to_nearest};

/// The learned scales of a model's matrices, which choose codes in place of the observed ones.
///
/// ```text
/// let quantizer = CheckpointQuantizer::new(&trained, file, &policy);
/// quantizer.with_method(&|matrix| scales.quantize(matrix)).save(path, &tensors)?;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainedScales {
    matrices: BTreeMap<String, (Vec<f32>, Option<Vec<f32>>)>,
}

impl TrainedScales {
    /// Codes of `matrix` with its learned scales; rounded to nearest where it has none.
    ///
    /// # Errors
    /// [`QuantError`]: a weight is not finite, or scales do not fit the matrix.
    pub fn quantize(&self, matrix: &DenseMatrix<'_>) -> Result<QuantizedMatrix, QuantError> {
        let DenseMatrix { name, weight, shape, scheme } = *matrix;
        let Some((scales, minimums)) = self.matrices.get(name) else {
            return round_to_nearest(name, weight, shape, &scheme.weight);
        };
        if let Some(at) = weight.iter().position(|w| !w.is_finite()) {
            let (row, column, value) = (at / shape[1], at % shape[1], weight[at]);
            return Err(QuantError::NotFinite { name: name.to_owned(), row, column, value });
        }
        Self::codes(name, weight, shape, &scheme.weight, scales.clone(), minimums.clone())
    }

    /// Matrices with learned scales.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.matrices.keys().map(String::as_str)
    }

    pub(super) fn insert(&mut self, name: &str, scales: Vec<f32>, minimums: Option<Vec<f32>>) {
        self.matrices.insert(name.to_owned(), (scales, minimums));
    }

    /// Codes of `weight: [N, K]`, which is finite, with these scales and minimums `[N, G]`.
    pub(super) fn codes(
        name: &str,
        weight: &[f32],
        shape: [usize; 2],
        scheme: &WeightScheme,
        scales: Vec<f32>,
        minimums: Option<Vec<f32>>,
    ) -> Result<QuantizedMatrix, QuantError> {
        let misfit = |source| QuantError::Layer { name: name.to_owned(), source };
        let [n, k] = shape;
        let group_size = scheme.group_size(k);
        if group_size == 0 {
            return Err(misfit(PackingError::GroupSize { group_size, in_features: k }));
        }
        let groups = k.div_ceil(group_size);
        let length = |part, expected, actual| match expected == actual {
            true => Ok(()),
            false => Err(misfit(PackingError::Length { part, expected, actual })),
        };
        length("codes", n * k, weight.len())?;
        length("scales", n * groups, scales.len())?;
        let of_minimums = minimums.as_ref().map_or(0, Vec::len);
        length("minimums", if scheme.symmetric { 0 } else { n * groups }, of_minimums)?;
        let mut codes = Vec::with_capacity(n * k);
        let each_group = weight.chunks(k.max(1)).flat_map(|row| row.chunks(group_size));
        for (at, group) in each_group.enumerate() {
            let minimum = minimums.as_ref().map_or(0.0, |minimums| minimums[at]);
            codes.extend(group.iter().map(|&w| code(w, scales[at], minimum, scheme)));
        }
        let bits = scheme.bits;
        let matrix = QuantizedMatrix { shape, bits, group_size, codes, scales, minimums };
        matrix.check().map_err(misfit)?;
        Ok(matrix)
    }
}
