//! `Encoder`: tokens to vectors.
//!
//! Shapes: `T` tokens of all inputs, `D` hidden_size, `F` intermediate_size.

use std::path::Path;

use lightglm_core::{WeightError, WeightSource};
use lightglm_kernels::cpu;
use lightglm_text::EncoderInput;

use super::arithmetic::add_and_norm;
use super::error::EncoderError;
use super::hidden_states::HiddenStates;
use super::parameters::{Affine, Matrix, Norm, Parameters};
use crate::config::{EncoderConfig, Positions};

/// An encoder: embeddings, and layers of attention and feed-forward with a norm behind each.
///
/// ```text
/// x = norm(word + position + kind)
/// x = norm(x + o(attention(q(x), k(x), v(x))));  x = norm(x + down(act(up(x))))      layer after layer
/// ```
/// Source: Devlin et al. 2018, "BERT"; transformers 5.24.0, `modeling_bert.py`, `modeling_xlm_roberta.py`.
#[derive(Clone, Debug)]
pub struct Encoder {
    config: EncoderConfig,
    words: Matrix,
    positions: Matrix,
    kinds: Matrix,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    query: Affine,
    key: Affine,
    value: Affine,
    output: Affine,
    attention_norm: Norm,
    up: Affine,
    down: Affine,
    norm: Norm,
}

impl Encoder {
    /// Reads an encoder's tensors, under transformers' names; `source` is called `file` in errors. Tensors
    /// that no encoder has (heads, poolers, buffers) are let be.
    ///
    /// # Errors
    /// [`WeightError`] naming the tensor.
    pub fn load(
        config: &EncoderConfig,
        source: &dyn WeightSource,
        file: &Path,
    ) -> Result<Self, WeightError> {
        let parameters = Parameters::of(source, file)?;
        let (d, eps) = (config.hidden_size, config.layer_norm_eps);
        let table = |name: &str, rows: usize| {
            parameters.matrix(&format!("embeddings.{name}_embeddings.weight"), [rows, d])
        };
        Ok(Self {
            words: table("word", config.vocab_size)?,
            positions: table("position", config.max_position_embeddings)?,
            kinds: table("token_type", config.type_vocab_size)?,
            norm: parameters.norm("embeddings.LayerNorm", eps, d)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(config, &parameters, index))
                .collect::<Result<_, _>>()?,
            config: config.clone(),
        })
    }

    /// Its shape.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The last layer's vectors of all tokens of the `inputs`, each read for itself.
    ///
    /// # Errors
    /// [`EncoderError::NoTokens`], [`EncoderError::TooLong`], [`EncoderError::UnknownToken`] and
    /// [`EncoderError::UnknownKind`].
    pub fn forward(&self, inputs: &[EncoderInput]) -> Result<HiddenStates, EncoderError> {
        let d = self.config.hidden_size;
        let mut ranges = Vec::with_capacity(inputs.len());
        let mut tokens = 0;
        for (index, input) in inputs.iter().enumerate() {
            self.check(index, input)?;
            ranges.push(tokens..tokens + input.ids.len());
            tokens += input.ids.len();
        }
        let mut rows = vec![0.0; tokens * d];
        for (input, range) in inputs.iter().zip(&ranges) {
            self.embed(input, &mut rows[range.start * d..range.end * d]);
        }
        add_and_norm(&mut rows, None, &self.norm);
        let heads = self.config.num_attention_heads;
        let shape = cpu::AttentionShape { heads, kv_heads: heads, head_dim: d / heads };
        for layer in &self.layers {
            let (q, k, v) = (&layer.query, &layer.key, &layer.value);
            let [q, k, v] = [q, k, v].map(|projection| projection.project(&rows));
            let attended = cpu::attend_segments([&q, &k, &v], &ranges, shape);
            let mut x = layer.output.project(&attended);
            add_and_norm(&mut x, Some(&rows), &layer.attention_norm);
            let mut inner = layer.up.project(&x);
            cpu::activate(&mut inner, self.config.hidden_act);
            layer.down.project_to(&inner, &mut rows);
            add_and_norm(&mut rows, Some(&x), &layer.norm);
        }
        Ok(HiddenStates { rows, hidden_size: d, ranges })
    }

    fn check(&self, index: usize, input: &EncoderInput) -> Result<(), EncoderError> {
        let limit = self.config.max_tokens();
        let (tokens, vocab_size) = (input.ids.len(), self.config.vocab_size);
        if tokens == 0 {
            return Err(EncoderError::NoTokens { index });
        }
        if tokens > limit {
            return Err(EncoderError::TooLong { index, tokens, limit });
        }
        if let Some(&token) = input.ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(EncoderError::UnknownToken { index, token, vocab_size });
        }
        let kinds = self.config.type_vocab_size;
        match input.type_ids.iter().find(|&&kind| kind as usize >= kinds) {
            // RoBERTa has one kind, whatever a tokenizer.json says of pairs.
            Some(&kind) if kinds > 1 => Err(EncoderError::UnknownKind { index, kind, kinds }),
            _ => Ok(()),
        }
    }

    /// `rows: [T_i, D]`, zeros before.
    fn embed(&self, input: &EncoderInput, rows: &mut [f32]) {
        let mut next = self.config.first_position();
        let padding = self.config.pad_token_id;
        let behind_padding = self.config.positions == Positions::BehindPadding;
        let last_kind = self.config.type_vocab_size - 1;
        let ids = input.ids.iter().enumerate();
        for ((token, &id), row) in ids.zip(rows.chunks_exact_mut(self.config.hidden_size)) {
            let position = if behind_padding && id == padding {
                padding as usize
            } else {
                next += 1;
                next - 1
            };
            let kind = input.type_ids.get(token).map_or(0, |&kind| kind as usize);
            self.words.add_row(id as usize, row);
            self.kinds.add_row(kind.min(last_kind), row);
            self.positions.add_row(position, row);
        }
    }
}

impl Layer {
    fn load(
        config: &EncoderConfig,
        parameters: &Parameters<'_>,
        index: usize,
    ) -> Result<Self, WeightError> {
        let (d, f, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let affine =
            |name: &str, shape| parameters.affine(&format!("encoder.layer.{index}.{name}"), shape);
        let norm = |name: &str| {
            parameters.norm(&format!("encoder.layer.{index}.{name}.LayerNorm"), eps, d)
        };
        Ok(Self {
            query: affine("attention.self.query", [d, d])?,
            key: affine("attention.self.key", [d, d])?,
            value: affine("attention.self.value", [d, d])?,
            output: affine("attention.output.dense", [d, d])?,
            attention_norm: norm("attention.output")?,
            up: affine("intermediate.dense", [f, d])?,
            down: affine("output.dense", [d, f])?,
            norm: norm("output")?,
        })
    }
}
