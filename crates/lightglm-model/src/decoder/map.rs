//! Recomposition: a model with other projections or other feed-forward parts.
//!
//! Projections are called by their checkpoint names without `.weight`: `model.layers.3.mlp.down_proj`,
//! `lm_head`.

use std::convert::Infallible;

use burn::tensor::backend::Backend;
use lightglm_core::{Embedding, FeedForward, Linear};

use super::block::Block;
use super::glm::Glm;
use super::self_attention::SelfAttention;
use super::swiglu::SwiGlu;

impl<B: Backend, L: Linear<B>, E: Embedding<B>> Glm<B, L, SwiGlu<B, L>, E> {
    /// Replaces every projection, given its name, in the order of the layers, `lm_head` last.
    ///
    /// One projection is replaced at a time, so a conversion needs room for one, not for a model.
    pub fn map_linears<M: Linear<B>>(
        self,
        mut map: impl FnMut(&str, L) -> M,
    ) -> Glm<B, M, SwiGlu<B, M>, E> {
        let Ok(model) = self.try_map_linears(|name, linear| Ok::<M, Infallible>(map(name, linear)));
        model
    }

    /// [`Self::map_linears`] with what may fail; nothing is replaced after the first error.
    ///
    /// # Errors
    /// The first that `map` returns.
    pub fn try_map_linears<M: Linear<B>, Error>(
        self,
        mut map: impl FnMut(&str, L) -> Result<M, Error>,
    ) -> Result<Glm<B, M, SwiGlu<B, M>, E>, Error> {
        let layers = self.layers.into_iter().enumerate();
        let layers = layers.map(|(i, block)| block.try_map_linears(i, &mut map));
        Ok(Glm {
            embed_tokens: self.embed_tokens,
            layers: layers.collect::<Result<_, _>>()?,
            norm: self.norm,
            lm_head: self.lm_head.map(|head| map("lm_head", head)).transpose()?,
            context_length: self.context_length,
            rotary: self.rotary,
        })
    }

    /// Shows every projection and its name, in the order of [`Self::map_linears`].
    pub fn for_each_linear(&self, mut visit: impl FnMut(&str, &L)) {
        for (index, block) in self.layers.iter().enumerate() {
            let attn = &block.self_attn;
            for (part, linear) in [
                ("self_attn.q_proj", &attn.q_proj),
                ("self_attn.k_proj", &attn.k_proj),
                ("self_attn.v_proj", &attn.v_proj),
                ("self_attn.o_proj", &attn.o_proj),
                ("mlp.gate_up_proj", &block.mlp.gate_up_proj),
                ("mlp.down_proj", &block.mlp.down_proj),
            ] {
                visit(&format!("model.layers.{index}.{part}"), linear);
            }
        }
        if let Some(head) = &self.lm_head {
            visit("lm_head", head);
        }
    }
}

impl<B: Backend, L: Linear<B>, F: FeedForward<B>, E: Embedding<B>> Glm<B, L, F, E> {
    /// Replaces the embedding table, and with it the head where the two are tied.
    pub fn map_embedding<G: Embedding<B>>(self, map: impl FnOnce(E) -> G) -> Glm<B, L, F, G> {
        let Ok(model) = self.try_map_embedding(|table| Ok::<G, Infallible>(map(table)));
        model
    }

    /// [`Self::map_embedding`] with what may fail.
    ///
    /// # Errors
    /// What `map` returns.
    pub fn try_map_embedding<G: Embedding<B>, Error>(
        self,
        map: impl FnOnce(E) -> Result<G, Error>,
    ) -> Result<Glm<B, L, F, G>, Error> {
        Ok(Glm {
            embed_tokens: map(self.embed_tokens)?,
            layers: self.layers,
            norm: self.norm,
            lm_head: self.lm_head,
            context_length: self.context_length,
            rotary: self.rotary,
        })
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
            context_length: self.context_length,
            rotary: self.rotary,
        }
    }
}

impl<B: Backend, L: Linear<B>> Block<B, L, SwiGlu<B, L>> {
    fn try_map_linears<M: Linear<B>, Error>(
        self,
        index: usize,
        map: &mut impl FnMut(&str, L) -> Result<M, Error>,
    ) -> Result<Block<B, M, SwiGlu<B, M>>, Error> {
        let mut map = |part: &str, linear| map(&format!("model.layers.{index}.{part}"), linear);
        let attn = self.self_attn;
        Ok(Block {
            input_layernorm: self.input_layernorm,
            self_attn: SelfAttention {
                q_proj: map("self_attn.q_proj", attn.q_proj)?,
                k_proj: map("self_attn.k_proj", attn.k_proj)?,
                v_proj: map("self_attn.v_proj", attn.v_proj)?,
                o_proj: map("self_attn.o_proj", attn.o_proj)?,
                q_norm: attn.q_norm,
                k_norm: attn.k_norm,
                num_attention_heads: attn.num_attention_heads,
                num_key_value_heads: attn.num_key_value_heads,
                head_dim: attn.head_dim,
                backend: attn.backend,
            },
            post_self_attn_layernorm: self.post_self_attn_layernorm,
            post_attention_layernorm: self.post_attention_layernorm,
            mlp: SwiGlu {
                gate_up_proj: map("mlp.gate_up_proj", self.mlp.gate_up_proj)?,
                down_proj: map("mlp.down_proj", self.mlp.down_proj)?,
                backend: self.mlp.backend,
            },
            post_mlp_layernorm: self.post_mlp_layernorm,
        })
    }
}
