//! `QuantizationMethod`: a method, as a seam.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row.

use lightglm_kernels::QuantizedMatrix;

use super::MethodError;
use super::clip::{clipped_scales, with_scales};
use super::layer_weight::LayerWeight;
use super::statistics::InputStatistics;
use crate::{WeightScheme, round_to_nearest};

/// Chooses codes and scales for a weight.
pub trait QuantizationMethod: std::fmt::Debug + Send + Sync {
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

/// [`round_to_nearest`] as a [`QuantizationMethod`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundToNearest;

impl QuantizationMethod for RoundToNearest {
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

impl QuantizationMethod for ClipSearch {
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
