//! RMSNorm, `x: [T, D]`; of heads, `x: [T, H d]`.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_kernels::LmBackend;

/// `weight * x / sqrt(mean(x^2) + eps)`.
///
/// Source: transformers, `modeling_glm4.py`, `Glm4RMSNorm`.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// `[D]`, or `[d]` for a norm of heads.
    pub weight: Param<Tensor<B, 1>>,
    /// `rms_norm_eps`.
    pub eps: f64,
}

impl<B: LmBackend> RmsNorm<B> {
    /// `x: [T, D] -> [T, D]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::rms_norm(x, self.weight.val(), self.eps as f32)
    }

    /// Each head of `x: [T, H d]` on its own: `[T, H d]`.
    ///
    /// Source: transformers, `modeling_qwen3.py`, `Qwen3Attention`.
    pub fn forward_heads(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [rows, width] = x.dims();
        let [head_dim] = self.weight.dims();
        let heads = x.reshape([rows * width / head_dim, head_dim]);
        self.forward(heads).reshape([rows, width])
    }

    /// `residual + forward(x)`.
    pub fn forward_add(&self, x: Tensor<B, 2>, residual: Tensor<B, 2>) -> Tensor<B, 2> {
        B::rms_norm_add(x, self.weight.val(), self.eps as f32, residual)
    }
}
