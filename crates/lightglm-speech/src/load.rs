//! An encoder from its parts.

use std::marker::PhantomData;

use lightglm_core::{LoadPart, PartSource, WeightError};
use lightglm_kernels::LmBackend;
use lightglm_model::config::AudioConfig;
use lightglm_model::decoder::{LayerNorm, vector};

use crate::tower::{Projector, SpeechAttention, SpeechLayer, SpeechMlp, SpeechTower};
use crate::weights::{KERNEL, PROJECTOR, TOWER};

/// Of the layer norms: torch's default.
const LAYER_NORM_EPS: f64 = 1e-5;

struct Loader<'a, B: LmBackend, P> {
    config: &'a AudioConfig,
    parts: &'a P,
    device: &'a B::Device,
}

impl<B: LmBackend, P: PartSource<B>> Loader<'_, B, P> {
    fn linear(&self, name: String, shape: [usize; 2], bias: bool) -> Result<P::Linear, P::Error> {
        self.parts.linear(&LoadPart::new(name, shape).with_bias(bias), self.device)
    }

    fn norm(&self, name: &str) -> Result<LayerNorm<B>, WeightError> {
        let vector = |part: &str| {
            let name = format!("{TOWER}.{name}.{part}");
            vector(self.parts.weights(), &name, [self.config.hidden_size], self.device)
        };
        Ok(LayerNorm { weight: vector("weight")?, bias: vector("bias")?, eps: LAYER_NORM_EPS })
    }

    fn layer(&self, index: usize) -> Result<SpeechLayer<B, P::Linear>, P::Error> {
        let AudioConfig { hidden_size: d, intermediate_size: inner, .. } = *self.config;
        let (heads, kv_heads) = (self.config.num_attention_heads, self.config.num_key_value_heads);
        let head_dim = self.config.head_dim();
        let linear = |part: &str, shape, bias| {
            self.linear(format!("{TOWER}.layers.{index}.{part}"), shape, bias)
        };
        let norm = |part: &str| self.norm(&format!("layers.{index}.{part}"));
        Ok(SpeechLayer {
            input_layernorm: norm("input_layernorm")?,
            self_attn: SpeechAttention {
                q_proj: linear("self_attn.q_proj", [d, d], true)?,
                k_proj: linear("self_attn.k_proj", [kv_heads * head_dim, d], false)?,
                v_proj: linear("self_attn.v_proj", [kv_heads * head_dim, d], true)?,
                o_proj: linear("self_attn.o_proj", [d, d], true)?,
                heads,
                kv_heads,
                head_dim,
                backend: PhantomData,
            },
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: SpeechMlp {
                fc1: linear("mlp.fc1", [inner, d], true)?,
                fc2: linear("mlp.fc2", [d, inner], true)?,
                backend: PhantomData,
            },
        })
    }
}

impl<B: LmBackend, L: lightglm_core::Linear<B>> SpeechTower<B, L> {
    /// An encoder whose projections are made by `parts`, whose tensors are those of
    /// [`speech_weights`](crate::speech_weights).
    ///
    /// # Errors
    /// That of the part at fault.
    pub fn from_parts<P: PartSource<B, Linear = L>>(
        config: &AudioConfig,
        parts: &P,
        device: &B::Device,
    ) -> Result<Self, P::Error> {
        let loader = Loader { config, parts, device };
        let (d, inner, mels) = (config.hidden_size, config.intermediate_size, config.num_mel_bins);
        let (out, wide) = (config.out_hidden_size, 2 * config.out_hidden_size);
        Ok(Self {
            conv1: loader.linear(format!("{TOWER}.conv1"), [d, mels * KERNEL], true)?,
            conv2: loader.linear(format!("{TOWER}.conv2"), [d, d * KERNEL], true)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| loader.layer(i))
                .collect::<Result<_, _>>()?,
            norm: loader.norm("norm")?,
            projector: Projector {
                linear_1: loader.linear(format!("{PROJECTOR}.linear_1"), [wide, inner], true)?,
                linear_2: loader.linear(format!("{PROJECTOR}.linear_2"), [out, wide], true)?,
                backend: PhantomData,
            },
            mel_bins: mels,
            inv_freq: config.rope.inv_freq(config.rotary_dim()).0,
        })
    }
}
