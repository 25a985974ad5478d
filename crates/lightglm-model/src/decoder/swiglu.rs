//! The dense feed-forward part: SwiGLU with fused gate and up projections.
//!
//! Shapes: `T` rows, `D` hidden_size, `F` intermediate_size.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{FeedForward, Linear};
use lightglm_kernels::LmBackend;

/// `down(silu(gate(x)) * up(x))`.
///
/// Source: transformers, `modeling_glm4.py`, `Glm4MLP`.
#[derive(Module, Debug)]
pub struct SwiGlu<B: Backend, L: Module<B>> {
    /// `[2F, D]`, gate rows first.
    pub gate_up_proj: L,
    /// `[D, F]`.
    pub down_proj: L,
    pub(super) backend: core::marker::PhantomData<B>,
}

impl<B: Backend, L: Module<B>> SwiGlu<B, L> {
    /// Of its projections.
    pub fn new(gate_up_proj: L, down_proj: L) -> Self {
        Self { gate_up_proj, down_proj, backend: core::marker::PhantomData }
    }
}

impl<B: LmBackend, L: Linear<B>> FeedForward<B> for SwiGlu<B, L> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.down_proj.forward(B::swiglu(self.gate_up_proj.forward(x)))
    }

    fn bytes_read(&self) -> usize {
        self.gate_up_proj.bytes_read() + self.down_proj.bytes_read()
    }
}
