//! `LearnedScales`: scales that are parameters.
//!
//! Shapes: `N` out_features, `G` groups of a row.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_kernels::{LmBackend, PackingError, ScaleDtype};

use super::groups::untracked;
use super::observed_scales::{GroupScales, stored};

/// The smallest scale: far below any weight's, and far from where `w / scale` overflows.
const SMALLEST: f32 = 1e-30;

/// Scales of a matrix, one a group, trained along with it.
///
/// What is computed with is the parameter's magnitude (no less than 1e-30), rounded as the scheme
/// stores scales. Its gradient passes that rounding straight through:
///
/// ```text
/// d fq(w) / d scale   = q - (w - minimum) / scale   in range,   q   where w is clipped
/// d fq(w) / d minimum = 0                           in range,   1   where w is clipped
/// ```
/// A scale meets many weights, so its gradient is large beside its size: train it with a learning
/// rate of its own, some hundred times smaller, or scale the gradient as LSQ does by
/// `1 / sqrt(weights of the group * largest code)`. It wants no weight decay.
///
/// Sources: Esser et al. 2020, "Learned Step Size Quantization", equation 3; Bhalgat et al. 2020,
/// "LSQ+", equations 5 and 6.
#[derive(Module, Debug)]
pub struct LearnedScales<B: Backend> {
    /// `[N, G]`.
    pub scales: Param<Tensor<B, 2>>,
    /// `[N, G]`; `None` where the scheme is symmetric.
    pub minimums: Option<Param<Tensor<B, 2>>>,
}

impl<B: LmBackend> LearnedScales<B> {
    /// Parameters that start from these scales.
    pub(super) fn from_observed(observed: GroupScales<B>) -> Self {
        let [n, groups, _] = observed.scale.dims();
        let param = |values: Tensor<B, 3>| Param::from_tensor(values.reshape([n, groups]));
        Self { scales: param(observed.scale), minimums: observed.minimum.map(param) }
    }

    /// What is computed with, in precision `dtype`: scales above zero and minimums, `[N, G]` each.
    pub fn effective(&self, dtype: ScaleDtype) -> (Tensor<B, 2>, Option<Tensor<B, 2>>) {
        let magnitude = self.scales.val().abs();
        let scales = stored(untracked(magnitude.clone()).clamp_min(SMALLEST), dtype);
        let minimums = self.minimums.as_ref().map(|minimums| {
            let minimums = minimums.val();
            B::straight_through(stored(untracked(minimums.clone()), dtype), minimums)
        });
        (B::straight_through(scales, magnitude), minimums)
    }

    /// Whether the parameters are finite. What they are computed as always is, so that would not show.
    pub(super) fn check(&self) -> Result<(), PackingError> {
        for (part, values) in [("scales", Some(&self.scales)), ("minimums", self.minimums.as_ref())]
        {
            let Some(values) = values else { continue };
            let [_, groups] = values.dims();
            let data = values.val().into_data();
            if let Some(at) = data.iter::<f32>().position(|value| !value.is_finite()) {
                return Err(PackingError::NotFinite { part, row: at / groups });
            }
        }
        Ok(())
    }
}
