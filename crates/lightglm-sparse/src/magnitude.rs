//! `Magnitude`: small activations are zero. Shapes: `T` rows, `K` in_features.

use burn::module::Module;
use burn::tensor::Tensor;
use lightglm_kernels::LmBackend;

use crate::SparsityPolicy;

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
        if !B::ad_enabled(&x.device()) {
            return B::keep_large(x, self.threshold);
        }
        let kept = B::keep_large(x.clone().detach(), self.threshold);
        let left_out = kept - x.clone().detach();
        x + left_out
    }
}
