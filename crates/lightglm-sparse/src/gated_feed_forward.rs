//! `GatedFeedForward`. Shapes: `T` rows, `D` hidden_size, `F` intermediate_size.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{FeedForward, Linear};
use lightglm_kernels::LmBackend;

use crate::SparsityPolicy;

/// `down(policy(silu(gate(x))) * up(x))`: SwiGLU whose neurons are chosen by their gates. With
/// [`Magnitude`](crate::Magnitude) this is CATS, with [`Recording`](crate::Recording) what its thresholds
/// are found with.
///
/// What a closed gate leaves out is its channel of `down_proj`, where that one is in the order that
/// skips zeros: at most a third of the feed-forward part's weights, as gate and up have been
/// computed for all neurons by then.
///
/// In training the gradient passes the policy as the policy says; that of `up` is zero where a gate is
/// closed.
///
/// Source: Lee et al. 2024, "CATS: Contextually-Aware Thresholding for Sparsity in Large Language
/// Models", section 3.
#[derive(Module, Debug)]
pub struct GatedFeedForward<B: Backend, G: Module<B>, D: Module<B>, P: Module<B>> {
    /// `[2F, D]`, gate rows first.
    pub gate_up_proj: G,
    /// `[D, F]`.
    pub down_proj: D,
    /// What is left of `silu(gate)`.
    pub policy: P,
    backend: core::marker::PhantomData<B>,
}

impl<B: Backend, G: Linear<B>, D: Linear<B>, P: SparsityPolicy<B>> GatedFeedForward<B, G, D, P> {
    /// Puts `policy` behind the gates of a SwiGLU.
    pub fn new(gate_up_proj: G, down_proj: D, policy: P) -> Self {
        Self { gate_up_proj, down_proj, policy, backend: core::marker::PhantomData }
    }
}

impl<B: LmBackend, G: Linear<B>, D: Linear<B>, P: SparsityPolicy<B>> FeedForward<B>
    for GatedFeedForward<B, G, D, P>
{
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let gate_up = self.gate_up_proj.forward(x);
        let [rows, width] = gate_up.dims();
        let gate = gate_up.clone().narrow(1, 0, width / 2);
        let up = gate_up.narrow(1, width / 2, width / 2);
        // The gate's bits are those of the whole: `silu(gate) * 1`.
        let ones = Tensor::ones([rows, width / 2], &up.device());
        let active = self.policy.apply(B::swiglu(Tensor::cat(vec![gate, ones], 1)));
        self.down_proj.forward(active * up)
    }

    fn bytes_read(&self) -> usize {
        self.gate_up_proj.bytes_read() + self.down_proj.bytes_read()
    }
}
