//! One decoder block.
//!
//! Shapes: `T` rows, `D` hidden_size.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{FeedForward, KvLayer, Linear};
use lightglm_kernels::LmBackend;

use super::dense_linear::bytes;
use super::forward_hook::{ForwardHook, Site};
use super::norm::RmsNorm;
use super::self_attention::{SelfAttention, StepInputs};

/// Attention and feed-forward, each between a norm and a residual addition.
///
/// GLM-4-0414 (`glm4`) norms each branch's output as well ("sandwich norms"); GLM of 2024 (`glm`)
/// does not; `qwen3` is `glm` with norms inside of attention.
///
/// Source: transformers, `modeling_glm4.py` `Glm4DecoderLayer`, `modeling_glm.py` `GlmDecoderLayer`.
#[derive(Module, Debug)]
pub struct Block<B: Backend, L: Module<B>, F: Module<B>> {
    /// Before attention.
    pub input_layernorm: RmsNorm<B>,
    /// The attention branch.
    pub self_attn: SelfAttention<B, L>,
    /// After attention, before the addition (`glm4`).
    pub post_self_attn_layernorm: Option<RmsNorm<B>>,
    /// Before the feed-forward part.
    pub post_attention_layernorm: RmsNorm<B>,
    /// The feed-forward branch.
    pub mlp: F,
    /// After the feed-forward part, before the addition (`glm4`).
    pub post_mlp_layernorm: Option<RmsNorm<B>>,
}

impl<B: LmBackend, L: Linear<B>, F: FeedForward<B>> Block<B, L, F> {
    /// `hidden: [T, D] -> [T, D]`, the residual stream before and after block `index`.
    pub(super) fn forward(
        &self,
        index: usize,
        hidden: Tensor<B, 2>,
        step: &StepInputs<'_, B>,
        layer: Option<&mut KvLayer<B>>,
        hook: &mut impl ForwardHook<B>,
    ) -> Tensor<B, 2> {
        let normed = self.input_layernorm.forward(hidden.clone());
        let branch = self.self_attn.forward(index, normed, step, layer, hook);
        hook.observe(Site::SelfAttnOut(index), &branch);
        let hidden = add_branch(&self.post_self_attn_layernorm, branch, hidden);
        let normed = self.post_attention_layernorm.forward(hidden.clone());
        let branch = self.mlp.forward(normed);
        hook.observe(Site::MlpOut(index), &branch);
        let hidden = add_branch(&self.post_mlp_layernorm, branch, hidden);
        hook.observe(Site::Layer(index), &hidden);
        hidden
    }

    /// Bytes of weights that one call must read, whatever `T` is.
    pub fn bytes_read(&self) -> usize {
        let attn = &self.self_attn;
        let projections = [&attn.q_proj, &attn.k_proj, &attn.v_proj, &attn.o_proj];
        let norms = self.norms().map(|(_, norm)| bytes(&norm.weight.val()));
        let projections = projections.into_iter().map(Linear::bytes_read);
        projections.chain(norms).sum::<usize>() + self.mlp.bytes_read()
    }
}

impl<B: Backend, L: Module<B>, F: Module<B>> Block<B, L, F> {
    /// The norms that the block has, by their names in a checkpoint from the block on, without `.weight`.
    pub fn norms(&self) -> impl Iterator<Item = (&'static str, &RmsNorm<B>)> {
        [
            ("input_layernorm", Some(&self.input_layernorm)),
            ("self_attn.q_norm", self.self_attn.q_norm.as_ref()),
            ("self_attn.k_norm", self.self_attn.k_norm.as_ref()),
            ("post_self_attn_layernorm", self.post_self_attn_layernorm.as_ref()),
            ("post_attention_layernorm", Some(&self.post_attention_layernorm)),
            ("post_mlp_layernorm", self.post_mlp_layernorm.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, norm)| Some((name, norm?)))
    }
}

fn add_branch<B: LmBackend>(
    norm: &Option<RmsNorm<B>>,
    branch: Tensor<B, 2>,
    residual: Tensor<B, 2>,
) -> Tensor<B, 2> {
    match norm {
        Some(norm) => norm.forward_add(branch, residual),
        None => residual + branch,
    }
}
