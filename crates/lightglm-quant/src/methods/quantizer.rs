//! `Quantizer`: a method, as a seam.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row.

use lightglm_kernels::QuantizedMatrix;

use super::MethodError;
use super::clip::{clipped_scales, with_scales};
use super::statistics::InputStatistics;
use crate::{QuantError, WeightScheme, round_to_nearest};

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

/// Chooses codes and scales for a weight.
pub trait Quantizer: std::fmt::Debug + Send + Sync {
    /// Quantizes `layer`. `inputs` are what calibration saw going into it; without them (no text,
    /// or a layer that no text reaches) a method falls back on what needs no data.
    ///
    /// # Errors
    /// [`MethodError`] naming the layer.
    fn quantize(
        &self,
        layer: &LayerWeight<'_>,
        scheme: &WeightScheme,
        inputs: Option<&InputStatistics>,
    ) -> Result<QuantizedMatrix, MethodError>;
}

/// [`round_to_nearest`] as a [`Quantizer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundToNearest;

impl Quantizer for RoundToNearest {
    fn quantize(
        &self,
        layer: &LayerWeight<'_>,
        scheme: &WeightScheme,
        _inputs: Option<&InputStatistics>,
    ) -> Result<QuantizedMatrix, MethodError> {
        Ok(round_to_nearest(layer.name, layer.weight, layer.shape, scheme)?)
    }
}

/// Round to nearest with the scale of least squared error: columns count by the mean square of what
/// goes into them, all alike where nothing is known.
///
/// Source: the importance matrix of llama.cpp (ggml-org/llama.cpp, tools/imatrix/README.md).
#[derive(Clone, Copy, Debug, Default)]
pub struct ClipSearch;

impl Quantizer for ClipSearch {
    fn quantize(
        &self,
        layer: &LayerWeight<'_>,
        scheme: &WeightScheme,
        inputs: Option<&InputStatistics>,
    ) -> Result<QuantizedMatrix, MethodError> {
        layer.check(inputs)?;
        let importance = inputs.map(InputStatistics::mean_square);
        let scales = clipped_scales(layer.weight, layer.shape[1], importance.as_deref(), scheme);
        with_scales(layer, scheme, &scales)
    }
}
