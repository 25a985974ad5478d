//! Blocks of a model, run by themselves on a residual stream.
//!
//! Shapes: `T` rows, `D` hidden_size.

use burn::module::Param;
use burn::tensor::Tensor;
use lightglm_core::{Embedding, KvDtype, KvShape, Linear, LogitRows, SequenceId, Span};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{Block, DenseEmbedding, Glm, Site, SwiGlu};
use lightglm_quant::QuantizedLinear;

use super::QuantizedGlm;
use crate::error::Error;
use crate::sparse::SparseModelError;

/// Blocks, whose "tokens" are the rows of a residual stream `[T, D]`.
pub(crate) type AloneGlm<B, L> = Glm<B, L, SwiGlu<B, L>, DenseEmbedding<B>>;

/// A block of a quantized model.
pub(crate) type QuantizedBlock<B> = Block<B, QuantizedLinear<B>, SwiGlu<B, QuantizedLinear<B>>>;

/// `layers`, of `model` or of its kind, as a model of their own before which stands `hidden: [T, D]`.
pub(crate) fn alone<B: LmBackend>(
    model: &QuantizedGlm<B>,
    layers: Vec<QuantizedBlock<B>>,
    hidden: Tensor<B, 2>,
) -> AloneGlm<B, QuantizedLinear<B>> {
    let mut alone = model.clone();
    alone.layers = layers;
    alone.lm_head = None;
    alone.map_embedding(|_| DenseEmbedding { weight: Param::from_tensor(hidden) })
}

/// The residual stream behind the last of `blocks`: `[T, D]`; what stands before them where there are none.
///
/// # Errors
/// Where there are more rows than the model's context.
pub(crate) fn run_alone<B: LmBackend, L: Linear<B>>(
    blocks: &AloneGlm<B, L>,
    config: &GlmConfig,
) -> Result<Tensor<B, 2>, Error> {
    let Some(last) = blocks.layers.len().checked_sub(1) else {
        return Ok(blocks.embed_tokens.weight.val());
    };
    let [rows, _] = blocks.embed_tokens.shape();
    let device = blocks.embed_tokens.weight.val().device();
    let shape = KvShape::of(config).with_layers(last + 1);
    let mut cache = ContiguousKvCache::new(shape, 1, rows, KvDtype::F32, &device);
    let ids: Vec<u32> = (0..rows as u32).collect();
    let span = Span::text(SequenceId(0), &ids, LogitRows::None);
    let mut output = None;
    let mut observer = |site, value: &Tensor<B, 2>| {
        if site == Site::Layer(last) {
            output = Some(value.clone());
        }
    };
    blocks.forward_with_hook(&[span], &mut cache, &mut observer)?;
    let name = || format!("model.layers.{last}");
    Ok(output.ok_or_else(|| SparseModelError::NotRun { name: name() })?)
}
