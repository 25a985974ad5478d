//! RMSNorm, `x: [T, D]`.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_kernels::LmBackend;

/// `weight * x / sqrt(mean(x^2) + eps)`.
///
/// Source: transformers, `modeling_glm4.py`, `Glm4RMSNorm`.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// `[D]`.
    pub weight: Param<Tensor<B, 1>>,
    /// `rms_norm_eps`.
    pub eps: f64,
}

impl<B: LmBackend> RmsNorm<B> {
    /// `x: [T, D] -> [T, D]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::rms_norm(x, self.weight.val(), self.eps as f32)
    }

    /// `residual + forward(x)`.
    pub fn forward_add(&self, x: Tensor<B, 2>, residual: Tensor<B, 2>) -> Tensor<B, 2> {
        B::rms_norm_add(x, self.weight.val(), self.eps as f32, residual)
    }
}
