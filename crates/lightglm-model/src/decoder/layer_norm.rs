//! Layer norm, `x: [T, D]`.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_kernels::LmBackend;

/// `(x - mean) / sqrt(variance + eps) * weight + bias`: what encoders of pictures and speech have.
///
/// Source: Ba, Kiros and Hinton 2016, "Layer Normalization".
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// `[D]`.
    pub weight: Param<Tensor<B, 1>>,
    /// `[D]`.
    pub bias: Param<Tensor<B, 1>>,
    /// Added to the variance.
    pub eps: f64,
}

impl<B: LmBackend> LayerNorm<B> {
    /// `x: [T, D] -> [T, D]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        <B as LmBackend>::layer_norm(x, self.weight.val(), self.bias.val(), self.eps as f32)
    }
}
