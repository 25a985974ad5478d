//! Recomposition: a model with other projections or other feed-forward parts.

use burn::tensor::backend::Backend;
use lightglm_core::{Embedding, FeedForward, Linear};

use super::block::Block;
use super::glm::Glm;
use super::self_attention::SelfAttention;
use super::swiglu::SwiGlu;

/// Replaces a projection, given its checkpoint name without `.weight`
/// (`model.layers.3.mlp.down_proj`, `lm_head`).
pub trait MapLinear<L, M> {
    /// What takes the projection's place.
    fn map(&mut self, name: &str, linear: L) -> M;
}

impl<L, M, C: FnMut(&str, L) -> M> MapLinear<L, M> for C {
    fn map(&mut self, name: &str, linear: L) -> M {
        self(name, linear)
    }
}

impl<B: Backend, L: Linear<B>, E: Embedding<B>> Glm<B, L, SwiGlu<B, L>, E> {
    /// Replaces every projection, in the order of the layers, `lm_head` last.
    ///
    /// One projection is replaced at a time, so a conversion needs room for one, not for a model.
    pub fn map_linears<M: Linear<B>>(
        self,
        map: &mut impl MapLinear<L, M>,
    ) -> Glm<B, M, SwiGlu<B, M>, E> {
        let layers = self.layers.into_iter().enumerate();
        let layers = layers.map(|(i, block)| block.map_linears(i, map)).collect();
        Glm {
            embed_tokens: self.embed_tokens,
            layers,
            norm: self.norm,
            lm_head: self.lm_head.map(|head| map.map("lm_head", head)),
            max_position_embeddings: self.max_position_embeddings,
            rotary: self.rotary,
        }
    }
}

impl<B: Backend, L: Linear<B>, F: FeedForward<B>, E: Embedding<B>> Glm<B, L, F, E> {
    /// Replaces the embedding table, and with it the head where the two are tied.
    pub fn map_embedding<G: Embedding<B>>(self, map: impl FnOnce(E) -> G) -> Glm<B, L, F, G> {
        Glm {
            embed_tokens: map(self.embed_tokens),
            layers: self.layers,
            norm: self.norm,
            lm_head: self.lm_head,
            max_position_embeddings: self.max_position_embeddings,
            rotary: self.rotary,
        }
    }

    /// Replaces every feed-forward part, given its layer's index.
    pub fn map_feed_forwards<G: FeedForward<B>>(
        self,
        mut map: impl FnMut(usize, F) -> G,
    ) -> Glm<B, L, G, E> {
        let layers = self.layers.into_iter().enumerate();
        let layers = layers
            .map(|(i, block)| Block {
                input_layernorm: block.input_layernorm,
                self_attn: block.self_attn,
                post_self_attn_layernorm: block.post_self_attn_layernorm,
                post_attention_layernorm: block.post_attention_layernorm,
                mlp: map(i, block.mlp),
                post_mlp_layernorm: block.post_mlp_layernorm,
            })
            .collect();
        Glm {
            embed_tokens: self.embed_tokens,
            layers,
            norm: self.norm,
            lm_head: self.lm_head,
            max_position_embeddings: self.max_position_embeddings,
            rotary: self.rotary,
        }
    }
}

impl<B: Backend, L: Linear<B>> Block<B, L, SwiGlu<B, L>> {
    fn map_linears<M: Linear<B>>(
        self,
        index: usize,
        map: &mut impl MapLinear<L, M>,
    ) -> Block<B, M, SwiGlu<B, M>> {
        let mut map = |part: &str, linear| map.map(&format!("model.layers.{index}.{part}"), linear);
        let attn = self.self_attn;
        Block {
            input_layernorm: self.input_layernorm,
            self_attn: SelfAttention {
                q_proj: map("self_attn.q_proj", attn.q_proj),
                k_proj: map("self_attn.k_proj", attn.k_proj),
                v_proj: map("self_attn.v_proj", attn.v_proj),
                o_proj: map("self_attn.o_proj", attn.o_proj),
                num_attention_heads: attn.num_attention_heads,
                num_key_value_heads: attn.num_key_value_heads,
                head_dim: attn.head_dim,
                backend: attn.backend,
            },
            post_self_attn_layernorm: self.post_self_attn_layernorm,
            post_attention_layernorm: self.post_attention_layernorm,
            mlp: SwiGlu {
                gate_up_proj: map("mlp.gate_up_proj", self.mlp.gate_up_proj),
                down_proj: map("mlp.down_proj", self.mlp.down_proj),
                backend: self.mlp.backend,
            },
            post_mlp_layernorm: self.post_mlp_layernorm,
        }
    }
}
