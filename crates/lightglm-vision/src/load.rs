//! A tower from its parts.

use burn::module::Param;
use burn::tensor::Tensor;
use lightglm_core::{LoadPart, PartSource, WeightError};
use lightglm_kernels::LmBackend;
use lightglm_model::config::VisionConfig;
use lightglm_model::decoder::{LayerNorm, RmsNorm, SwiGlu, vector};

use crate::tower::{Merger, TowerBlock, VisionAttention, VisionTower};
use crate::weights::PREFIX;

/// Of the merger's layer norm: torch's default.
const LAYER_NORM_EPS: f64 = 1e-5;

struct Loader<'a, B: LmBackend, P> {
    config: &'a VisionConfig,
    parts: &'a P,
    device: &'a B::Device,
}

impl<B: LmBackend, P: PartSource<B>> Loader<'_, B, P> {
    fn linear(&self, name: &str, shape: [usize; 2], bias: bool) -> Result<P::Linear, P::Error> {
        let part = LoadPart::new(format!("{PREFIX}.{name}"), shape).with_bias(bias);
        self.parts.linear(&part, self.device)
    }

    fn vector<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Param<Tensor<B, D>>, WeightError> {
        vector(self.parts.weights(), &format!("{PREFIX}.{name}"), shape, self.device)
    }

    fn norm(&self, name: &str, width: usize) -> Result<RmsNorm<B>, WeightError> {
        let weight = self.vector(&format!("{name}.weight"), [width])?;
        Ok(RmsNorm { weight, eps: self.config.rms_norm_eps })
    }

    fn mlp(
        &self,
        name: &str,
        [width, inner]: [usize; 2],
        bias: bool,
    ) -> Result<SwiGlu<B, P::Linear>, P::Error> {
        let gate_up = self.linear(&format!("{name}.gate_up_proj"), [2 * inner, width], bias)?;
        let down = self.linear(&format!("{name}.down_proj"), [width, inner], bias)?;
        Ok(SwiGlu::new(gate_up, down))
    }

    fn block(&self, index: usize) -> Result<TowerBlock<B, P::Linear>, P::Error> {
        let VisionConfig { hidden_size: d, attention_bias, is_ocr, .. } = *self.config;
        let name = |part: &str| format!("blocks.{index}.{part}");
        let head_dim = self.config.head_dim();
        let head_norm = |part: &str| match is_ocr {
            true => self.norm(&name(part), head_dim).map(Some),
            false => Ok(None),
        };
        Ok(TowerBlock {
            norm1: self.norm(&name("norm1"), d)?,
            attn: VisionAttention {
                qkv: self.linear(&name("attn.qkv"), [3 * d, d], attention_bias)?,
                proj: self.linear(&name("attn.proj"), [d, d], attention_bias && is_ocr)?,
                q_norm: head_norm("attn.q_norm")?,
                k_norm: head_norm("attn.k_norm")?,
                num_heads: self.config.num_heads,
                head_dim,
            },
            norm2: self.norm(&name("norm2"), d)?,
            mlp: self.mlp(&name("mlp"), [d, self.config.mlp_size], is_ocr)?,
        })
    }
}

impl<B: LmBackend, L: lightglm_core::Linear<B>> VisionTower<B, L> {
    /// A tower whose projections are made by `parts`, whose tensors are those of
    /// [`tower_weights`](crate::tower_weights).
    ///
    /// # Errors
    /// That of the part at fault.
    pub fn from_parts<P: PartSource<B, Linear = L>>(
        config: &VisionConfig,
        parts: &P,
        device: &B::Device,
    ) -> Result<Self, P::Error> {
        let loader = Loader { config, parts, device };
        let (d, out) = (config.hidden_size, config.out_hidden_size);
        let (m, side) = (config.spatial_merge_size, config.table_side());
        let table = "embeddings.position_embedding.weight";
        let (post_conv_layernorm, position_embedding) = match config.is_ocr {
            true => (None, None),
            false => (
                Some(loader.norm("post_conv_layernorm", d)?),
                Some(loader.vector(table, [side * side, d])?),
            ),
        };
        let norm = "merger.post_projection_norm";
        Ok(Self {
            patch_embed: loader.linear("patch_embed.proj", [d, config.patch_width()], true)?,
            post_conv_layernorm,
            position_embedding,
            blocks: (0..config.depth).map(|i| loader.block(i)).collect::<Result<_, _>>()?,
            post_layernorm: loader.norm("post_layernorm", d)?,
            downsample: loader.linear("downsample", [out, d * m * m], true)?,
            merger: Merger {
                proj: loader.linear("merger.proj", [out, out], false)?,
                post_projection_norm: LayerNorm {
                    weight: loader.vector(&format!("{norm}.weight"), [out])?,
                    bias: loader.vector(&format!("{norm}.bias"), [out])?,
                    eps: LAYER_NORM_EPS,
                },
                mlp: loader.mlp("merger", [out, config.merger_size], false)?,
            },
            spatial_merge_size: m,
            rope_theta: config.rope_theta,
        })
    }
}
