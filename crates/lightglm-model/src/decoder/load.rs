//! From a checkpoint to a decoder.

use std::path::Path;

use burn::module::Param;
use lightglm_core::{
    Embedding, Linear, LoadPart, PartSource, WeightDtype, WeightError, WeightSource, checked_tensor,
};
use lightglm_kernels::LmBackend;

use super::block::Block;
use super::dense_parts::{DenseParts, LoadPrecision};
use super::glm::{DenseGlm, Glm};
use super::norm::RmsNorm;
use super::place::place;
use super::rotary::RotaryEmbedding;
use super::self_attention::SelfAttention;
use super::swiglu::SwiGlu;
use crate::config::GlmConfig;

impl<B: LmBackend, L: Linear<B>, E: Embedding<B>> Glm<B, L, SwiGlu<B, L>, E> {
    /// Loads a decoder whose projections and embedding table are made by `parts`; norms are read from
    /// its [`weights`](PartSource::weights).
    ///
    /// # Errors
    /// That of the part at fault, or the [`WeightError`] of a norm.
    ///
    /// # Panics
    /// Where a source breaks its promise and makes a part in another shape than it was asked for.
    pub fn from_parts<P: PartSource<B, Linear = L, Embedding = E>>(
        config: &GlmConfig,
        parts: &P,
        device: &B::Device,
    ) -> Result<Self, P::Error> {
        let loader = Loader { config, parts, device };
        let layers = (0..config.num_hidden_layers).map(|index| loader.block(index));
        let layers = layers.collect::<Result<_, _>>()?;
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(loader.linear("lm_head", false)?),
        };
        let table = load_part(config, "model.embed_tokens", false);
        let embed_tokens = parts.embedding(&table, device)?;
        assert_eq!(embed_tokens.shape(), table.shape, "the embedding was made in another shape");
        Ok(Glm {
            embed_tokens,
            layers,
            norm: loader.norm("model.norm")?,
            lm_head,
            context_length: config.context_length(),
            rotary: RotaryEmbedding::new(config),
        })
    }
}

impl<B: LmBackend> DenseGlm<B> {
    /// Loads the dense checkpoint `source`, which `file` names in errors: [`Self::from_parts`] with
    /// [`DenseParts`].
    ///
    /// # Errors
    /// As [`DenseParts::new`].
    pub fn load(
        config: &GlmConfig,
        source: &dyn WeightSource,
        file: &Path,
        precision: LoadPrecision,
        device: &B::Device,
    ) -> Result<Self, WeightError> {
        Self::from_parts(config, &DenseParts::new(config, source, file, precision)?, device)
    }
}

/// What the configuration says of a matrix.
fn load_part(config: &GlmConfig, name: &str, bias: bool) -> LoadPart {
    let shape = config.tensor_shape(&format!("{name}.weight"));
    let shape = shape.and_then(|shape| shape.try_into().ok());
    let shape = shape.expect("the configuration knows the decoder's matrices");
    LoadPart::new(name, shape).with_bias(bias)
}

/// A block whose projections are all `L`.
type BlockOf<B, L> = Block<B, L, SwiGlu<B, L>>;

struct Loader<'a, B: LmBackend, P> {
    config: &'a GlmConfig,
    parts: &'a P,
    device: &'a B::Device,
}

impl<B: LmBackend, P: PartSource<B>> Loader<'_, B, P> {
    fn block(&self, index: usize) -> Result<BlockOf<B, P::Linear>, P::Error> {
        let config = self.config;
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, bias| self.linear(&name(part), bias);
        let bias = config.attention_bias;
        let norm = |part: &str, is_there| match is_there {
            true => self.norm(&name(part)).map(Some),
            false => Ok(None),
        };
        let post_norm = |part: &str| norm(part, config.has_post_norms());
        let qk_norm = |part: &str| norm(part, config.has_qk_norms());
        Ok(Block {
            input_layernorm: self.norm(&name("input_layernorm"))?,
            self_attn: SelfAttention {
                q_proj: linear("self_attn.q_proj", bias)?,
                k_proj: linear("self_attn.k_proj", bias)?,
                v_proj: linear("self_attn.v_proj", bias)?,
                o_proj: linear("self_attn.o_proj", false)?,
                q_norm: qk_norm("self_attn.q_norm")?,
                k_norm: qk_norm("self_attn.k_norm")?,
                num_attention_heads: config.num_attention_heads,
                num_key_value_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
                backend: Default::default(),
            },
            post_self_attn_layernorm: post_norm("post_self_attn_layernorm")?,
            post_attention_layernorm: self.norm(&name("post_attention_layernorm"))?,
            mlp: SwiGlu {
                gate_up_proj: linear("mlp.gate_up_proj", false)?,
                down_proj: linear("mlp.down_proj", false)?,
                backend: Default::default(),
            },
            post_mlp_layernorm: post_norm("post_mlp_layernorm")?,
        })
    }

    fn linear(&self, name: &str, bias: bool) -> Result<P::Linear, P::Error> {
        let part = load_part(self.config, name, bias);
        let made = self.parts.linear(&part, self.device)?;
        assert_eq!(made.shape(), part.shape, "`{name}` was made in another shape");
        Ok(made)
    }

    fn norm(&self, name: &str) -> Result<RmsNorm<B>, WeightError> {
        let (source, file) = self.parts.weights();
        let name = format!("{name}.weight");
        let shape = self.config.tensor_shape(&name).expect("the configuration knows the norms");
        let view = checked_tensor(source, file, &name, &shape)?;
        // Small, and held in f32 so that no kernel converts it per call.
        let weight = Param::from_tensor(place(view, WeightDtype::F32, self.device));
        Ok(RmsNorm { weight, eps: self.config.rms_norm_eps })
    }
}
