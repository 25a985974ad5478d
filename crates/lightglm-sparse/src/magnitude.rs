//! `Magnitude`: small activations are zero. Shapes: `T` rows, `K` in_features.

use burn::module::Module;
use burn::tensor::Tensor;
use lightglm_kernels::LmBackend;

use crate::SparsityPolicy;
use crate::policy::straight_through;

/// Keeps the entries with `|x| >= threshold`; a threshold of 0 keeps everything.
///
/// In training the gradient passes straight through the mask: what was left out in this step can
/// still learn.
///
/// Source: Liu et al. 2024, "Training-Free Activation Sparsity in Large Language Models", equation 1.
#[derive(Module, Clone, Debug)]
pub struct Magnitude {
    /// Non-negative and finite.
    pub threshold: f32,
}

impl<B: LmBackend> SparsityPolicy<B> for Magnitude {
    fn apply(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        if self.threshold == 0.0 {
            return x;
        }
        straight_through(x, |x| B::keep_large(x, self.threshold))
    }
}
