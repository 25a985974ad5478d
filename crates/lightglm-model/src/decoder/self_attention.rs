//! Grouped-query self-attention with partial interleaved rotary embedding.
//!
//! Shapes: `T` rows, `D` hidden_size, `H` heads, `G` kv heads, `d` head_dim, `r` rotary dimensions.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{KvLayer, Linear};
use lightglm_kernels::{AttentionShape, AttentionSpan, LmBackend};

use super::forward_hook::{ForwardHook, Site};
use super::norm::RmsNorm;

/// Projections around attention.
///
/// Source: transformers, `modeling_glm4.py`, `Glm4Attention`.
#[derive(Module, Debug)]
pub struct SelfAttention<B: Backend, L: Module<B>> {
    /// `[H d, D]`.
    pub q_proj: L,
    /// `[G d, D]`.
    pub k_proj: L,
    /// `[G d, D]`.
    pub v_proj: L,
    /// `[D, H d]`.
    pub o_proj: L,
    /// Of each head of q, `[d]` (`qwen3`).
    pub q_norm: Option<RmsNorm<B>>,
    /// Of each head of k, `[d]` (`qwen3`).
    pub k_norm: Option<RmsNorm<B>>,
    /// Query heads `H`.
    pub num_attention_heads: usize,
    /// Key and value heads `G`.
    pub num_key_value_heads: usize,
    /// `d`.
    pub head_dim: usize,
    pub(super) backend: core::marker::PhantomData<B>,
}

/// What all layers share in one step.
pub(super) struct StepInputs<'a, B: Backend> {
    /// `[T, r / 2]`.
    pub(super) cos: Tensor<B, 2>,
    /// `[T, r / 2]`.
    pub(super) sin: Tensor<B, 2>,
    pub(super) spans: &'a [AttentionSpan<'a>],
}

impl<B: LmBackend, L: Linear<B>> SelfAttention<B, L> {
    /// `x: [T, D] -> [T, D]` in block `index`; with `layer` keys and values go through the cache, without it each
    /// span attends to itself alone.
    pub(super) fn forward(
        &self,
        index: usize,
        x: Tensor<B, 2>,
        step: &StepInputs<'_, B>,
        layer: Option<&mut KvLayer<B>>,
        hook: &mut impl ForwardHook<B>,
    ) -> Tensor<B, 2> {
        let rotate = |norm: &Option<RmsNorm<B>>, x| {
            let x = match norm {
                Some(norm) => norm.forward_heads(x),
                None => x,
            };
            B::rotary(x, step.cos.clone(), step.sin.clone(), self.head_dim)
        };
        let q = rotate(&self.q_norm, self.q_proj.forward(x.clone()));
        let k = rotate(&self.k_norm, self.k_proj.forward(x.clone()));
        let v = self.v_proj.forward(x);
        hook.observe(Site::Queries(index), &q);
        hook.observe(Site::Keys(index), &k);
        hook.observe(Site::Values(index), &v);
        let shape = AttentionShape {
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
        };
        let out = match layer {
            Some(layer) => B::attend_cached(q, k, v, layer, shape, step.spans),
            None => B::attend(q, k, v, shape, step.spans),
        };
        self.o_proj.forward(out)
    }
}
