//! `KeptChannels`: the same channels for every token. Shapes: `T` rows, `K` in_features.

use burn::module::Module;
use burn::tensor::{Bool, Tensor, TensorData, backend::Backend};
use lightglm_core::SliceError;

use crate::SparsityPolicy;
use crate::policy::straight_through;

/// Keeps chosen channels and sets all others to zero: a choice of neurons as a mask, which composes
/// with any projection.
///
/// In training the gradient passes straight through the mask.
///
/// Source: Dong et al. 2024, "Prompt-prompted Adaptive Structured Pruning for Efficient LLM
/// Generation" (GRIFFIN), section 4, whose pruned weights it stands for.
#[derive(Module, Debug)]
pub struct KeptChannels<B: Backend> {
    /// `[1, K]`, true where a channel is set to zero.
    left_out: Tensor<B, 2, Bool>,
}

impl<B: Backend> KeptChannels<B> {
    /// Keeps `kept` of `channels` (`K`), in any order.
    ///
    /// # Errors
    /// [`SliceError::Index`].
    pub fn new(kept: &[usize], channels: usize, device: &B::Device) -> Result<Self, SliceError> {
        SliceError::check("input", kept, channels)?;
        let mut left_out = vec![true; channels];
        kept.iter().for_each(|&channel| left_out[channel] = false);
        let data = TensorData::new(left_out, [1, channels]);
        Ok(Self { left_out: Tensor::from_data(data, device) })
    }
}

impl<B: Backend> SparsityPolicy<B> for KeptChannels<B> {
    fn apply(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let left_out = self.left_out.clone().expand(x.dims());
        straight_through(x, |x| x.mask_fill(left_out, 0.0))
    }
}
