//! Quantization-aware training: prepare, train, convert.
//!
//! [`Prepare`] wraps the projections of a model, so that each forward pass computes with weights and
//! activations as they will come back from quantization; gradients pass the rounding straight through.
//! [`Convert`] makes the packed projections that are served, whose weights are those of the last
//! forward pass to the bit.
//!
//! ```text
//! let mut prepare = Prepare::new(&policy);
//! let table = "model.embed_tokens";
//! let model = model.try_map_linears(|name, linear| prepare.linear(name, linear))?;
//! let model = model.try_map_embedding(|embedding| prepare.embedding(table, embedding.weight))?;
//! prepare.finish()?;
//! // ... train, then on the inner backend:
//! let mut convert = Convert::new();
//! let model = model.valid();
//! let served = model.try_map_linears(|name, linear| convert.linear(name, &linear))?;
//! let served = served.try_map_embedding(|embedding| convert.embedding(table, &embedding))?;
//! let scales = convert.into_scales();
//! ```
//! To a file: take the model's weights in f32 (`Glm::weights`; rounded to bf16 they would have other
//! codes) and run [`CheckpointQuantizer::save`](crate::CheckpointQuantizer::save) with the same policy;
//! where scales were learned, with [`TrainedScales::quantize`] as its method.
//!
//! # What is simulated, and what is not
//! - Weights: exactly, in every [`WeightScheme`](crate::WeightScheme).
//! - Activations of 8 bits: exactly. Those of 16 bits pass as they are: their steps are finer than
//!   bf16, which no training would notice.
//! - An eight-bit KV cache ([`Prepare::with_int8_kv`]): values exactly. Keys are quantized as they
//!   leave `k_proj`, where the cache quantizes them after the rotary embedding (and after a
//!   Hadamard transform where it rotates keys). The error is of the same kind and near the same
//!   size, but not the same numbers.
//!
//! A fake-quantized model rounds its weights at every call; to evaluate one at length, convert first.
//!
//! Sources: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", section 3; Bengio et al. 2013, "Estimating or Propagating
//! Gradients Through Stochastic Neurons", for the straight-through estimator.

mod convert;
mod fake_quant_embedding;
mod fake_quant_linear;
mod fake_quantizer;
mod groups;
mod learned_scales;
mod observed_scales;
mod prepare;
mod rows;
mod trained_scales;
mod weight;

pub use convert::Convert;
pub use fake_quant_embedding::FakeQuantEmbedding;
pub use fake_quant_linear::FakeQuantLinear;
pub use fake_quantizer::{FakeQuantizer, ScaleSource};
pub use learned_scales::LearnedScales;
pub use prepare::Prepare;
pub use rows::fake_quantize_rows;
pub use trained_scales::TrainedScales;
pub use weight::fake_quantize_weight;
