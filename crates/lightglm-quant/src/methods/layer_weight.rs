//! `LayerWeight`: what a method quantizes.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row.

use lightglm_kernels::QuantizedMatrix;

use super::MethodError;
use super::statistics::InputStatistics;
use crate::{QuantError, WeightScheme};

/// A layer's weight on its way to codes.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeight<'a> {
    /// The layer's name without `.weight`, for errors.
    pub name: &'a str,
    /// `[N, K]`, row-major.
    pub weight: &'a [f32],
    /// `[N, K]`.
    pub shape: [usize; 2],
}

impl LayerWeight<'_> {
    /// A matrix of these codes `[N, K]` and scales with minimums `[N, G]`, checked.
    pub(crate) fn matrix(
        &self,
        scheme: &WeightScheme,
        codes: Vec<u8>,
        scales: &[(f32, f32)],
    ) -> Result<QuantizedMatrix, MethodError> {
        let matrix = QuantizedMatrix {
            shape: self.shape,
            bits: scheme.bits,
            group_size: scheme.group_size(self.shape[1]),
            codes,
            scales: scales.iter().map(|&(scale, _)| scale).collect(),
            minimums: (!scheme.symmetric).then(|| scales.iter().map(|&(_, m)| m).collect()),
        };
        let named = |source| QuantError::Layer { name: self.name.to_owned(), source };
        matrix.check().map_err(named)?;
        Ok(matrix)
    }

    /// Checks that all weights are finite and that `inputs` are of this layer's width.
    pub(crate) fn check(&self, inputs: Option<&InputStatistics>) -> Result<(), MethodError> {
        let [n, k] = self.shape;
        assert_eq!(self.weight.len(), n * k, "a weight has N * K elements");
        if let Some(at) = self.weight.iter().position(|w| !w.is_finite()) {
            let (row, column, value) = (at / k, at % k, self.weight[at]);
            let name = self.name.to_owned();
            return Err(QuantError::NotFinite { name, row, column, value }.into());
        }
        match inputs.map(InputStatistics::width) {
            Some(observed) if observed != k => {
                let (name, in_features) = (self.name.to_owned(), k);
                Err(MethodError::Width { name, in_features, observed })
            }
            _ => Ok(()),
        }
    }
}
