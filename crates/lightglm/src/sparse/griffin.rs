//! GRIFFIN: a prompt chooses the neurons of the feed-forward parts that the generation after it runs.
//!
//! Source: Dong et al. 2024, "Prompt-prompted Adaptive Structured Pruning for Efficient LLM
//! Generation", section 4.

use std::sync::Arc;

use burn::tensor::Tensor;
use lightglm_core::{CausalLm, Embedding, KvCache, Linear, SliceError, SliceLinear, Span};
use lightglm_kernels::{CodeOrder, LmBackend};
use lightglm_model::decoder::{Glm, SwiGlu};
use lightglm_quant::{MatrixWeight, QuantizedLinear};
use lightglm_sparse::{
    KeptChannels, KeptNeurons, NeuronStatistics, Recording, SlicedLinear, SparseLinear,
};

use super::error::SparseModelError;
use crate::error::Error;
use crate::model::QuantizedGlm;

/// A decoder whose projections are `L`.
pub type GlmOf<B, L, E> = Glm<B, L, SwiGlu<B, L>, E>;

/// A decoder cut down to some neurons.
pub type CompactGlm<B, L, E> = GlmOf<B, SlicedLinear<B, L>, E>;

/// A decoder with a mask before each `down_proj`.
pub type NeuronMaskedGlm<B, L, E> = GlmOf<B, SparseLinear<B, L, Option<KeptChannels<B>>>, E>;

/// What became of a prompt.
#[derive(Debug)]
pub struct Selected<B: LmBackend, L: Linear<B>, E: Embedding<B>> {
    /// The logits that the prompt's spans asked for, of the whole model.
    pub logits: Tensor<B, 2>,
    /// The model for the tokens that follow; it goes on with the prompt's cache.
    pub model: CompactGlm<B, L, E>,
    /// The neurons of each layer, by the name of its `down_proj`.
    pub neurons: KeptNeurons,
}

/// Runs the prompts `spans` on the whole `model` into `cache`, and cuts it down to the fraction `keep` of
/// its neurons: those that the prompts activate most.
///
/// A quantized model should come from [`down_by_channels`].
///
/// # Errors
/// Where a prompt does not fit, an activation is not finite, or `keep` is not above 0 and at most 1.
pub fn select<B: LmBackend, L: SliceLinear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    spans: &[Span<'_>],
    cache: &mut dyn KvCache<B>,
    keep: f64,
) -> Result<Selected<B, L, E>, Error> {
    let (logits, statistics) = prefill(model, spans, cache)?;
    let neurons = statistics.strongest(keep)?;
    Ok(Selected { logits, model: compact(model, &neurons)?, neurons })
}

/// A decoder that records what each `down_proj` is given.
pub type RecordingGlm<B, L, E> = GlmOf<B, SparseLinear<B, L, Option<Recording>>, E>;

/// `model`, whose neurons' activations go to `statistics`.
pub fn recording<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    statistics: &Arc<NeuronStatistics>,
) -> RecordingGlm<B, L, E> {
    model.clone().map_linears(|name: &str, linear: L| {
        let recording = |_| Recording::new(name, statistics.clone());
        SparseLinear::new(linear, name.strip_suffix(DOWN).map(recording))
    })
}

/// Runs the prompts `spans` on `model` into `cache`: their logits, and what they activated.
///
/// # Errors
/// Where a prompt does not fit.
pub fn prefill<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    spans: &[Span<'_>],
    cache: &mut dyn KvCache<B>,
) -> Result<(Tensor<B, 2>, Arc<NeuronStatistics>), Error> {
    let statistics = Arc::new(NeuronStatistics::default());
    let logits = recording(model, &statistics).forward(spans, cache)?;
    Ok((logits, statistics))
}

/// `model` with `neurons` alone: their gate and up rows, and their inputs of `down_proj`.
///
/// # Errors
/// Where a layer has no neurons to keep, or not those.
pub fn compact<B: LmBackend, L: SliceLinear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    neurons: &KeptNeurons,
) -> Result<CompactGlm<B, L, E>, Error> {
    let device = model.norm.weight.device();
    model.clone().try_map_linears(|name: &str, linear: L| {
        if name.ends_with(DOWN) {
            let inputs = SlicedLinear::inputs(&linear, kept(neurons, name)?, &device);
            return inputs.map_err(|source| slice_error(name, source));
        }
        let Some(layer) = name.strip_suffix(GATE_UP) else {
            return Ok(SlicedLinear::whole(linear));
        };
        let gates = kept(neurons, &format!("{layer}{DOWN}"))?;
        let [gates_and_ups, _] = linear.shape();
        let ups = gates.iter().map(|&neuron| gates_and_ups / 2 + neuron);
        let rows: Vec<usize> = gates.iter().copied().chain(ups).collect();
        SlicedLinear::outputs(&linear, &rows).map_err(|source| slice_error(name, source))
    })
}

/// The same choice as a mask: all of `model`, with zeros for the other neurons' activations.
///
/// # Errors
/// As [`compact`].
pub fn masked<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    neurons: &KeptNeurons,
) -> Result<NeuronMaskedGlm<B, L, E>, Error> {
    let device = model.norm.weight.device();
    model.clone().try_map_linears(|name: &str, linear: L| {
        if !name.ends_with(DOWN) {
            return Ok(SparseLinear::new(linear, None));
        }
        let [_, channels] = linear.shape();
        let mask = KeptChannels::new(kept(neurons, name)?, channels, &device);
        let mask = mask.map_err(|source| slice_error(name, source))?;
        Ok(SparseLinear::new(linear, Some(mask)))
    })
}

/// `model` with the codes of each `down_proj` in the order in which channels of zeros are not read. Done
/// once; the results stay the same, to the bit.
pub fn down_by_channels<B: LmBackend>(model: QuantizedGlm<B>) -> QuantizedGlm<B> {
    model.map_linears(|name: &str, QuantizedLinear { weight, bias }| {
        let weight = match weight {
            MatrixWeight::Packed(packed) if name.ends_with(DOWN) => {
                MatrixWeight::Packed(packed.with_order(CodeOrder::Channels))
            }
            other => other,
        };
        QuantizedLinear { weight, bias }
    })
}

const GATE_UP: &str = "mlp.gate_up_proj";
const DOWN: &str = "mlp.down_proj";

fn kept<'a>(neurons: &'a KeptNeurons, down_proj: &str) -> Result<&'a [usize], SparseModelError> {
    let missing = || SparseModelError::NoNeurons { name: down_proj.to_owned() };
    neurons.get(down_proj).map(Vec::as_slice).ok_or_else(missing)
}

fn slice_error(name: &str, source: SliceError) -> Error {
    SparseModelError::Select { name: name.to_owned(), source }.into()
}
