//! CATS: neurons whose gate is nearly closed are left out, by a threshold for each layer.
//!
//! Source: Lee et al. 2024, "CATS: Contextually-Aware Thresholding for Sparsity in Large Language
//! Models", section 3.

use std::sync::Arc;

use lightglm_core::{Embedding, Linear};
use lightglm_kernels::LmBackend;
use lightglm_model::decoder::{Glm, SwiGlu};
use lightglm_quant::{QuantizedEmbedding, QuantizedLinear};
use lightglm_sparse::{
    GatedFeedForward, Magnitude, Recording, SparseLinear, SparsityPolicy, Thresholds,
};

use super::any_order::{AnyOrder, channel_bytes};
use super::error::SparseModelError;
use super::griffin::GlmOf;
use super::{ActivationStatistics, Counted, span};
use crate::error::Error;
use crate::model::QuantizedGlm;
use crate::progress::ProgressSink;

/// A decoder whose feed-forward parts have a policy behind their gates.
pub type GatedGlm<B, L, P, E> = Glm<B, L, GatedFeedForward<B, L, L, P>, E>;

/// A quantized decoder with a threshold behind each layer's gates, and each `down_proj` in the order
/// that leaves zeros out.
pub type GatedByChannelsGlm<B> = Glm<
    B,
    QuantizedLinear<B>,
    GatedFeedForward<B, QuantizedLinear<B>, AnyOrder<B>, Magnitude>,
    QuantizedEmbedding<B>,
>;

/// How large `|silu(gate)|` of each layer is over `windows` of tokens, each on its own;
/// [`ActivationStatistics::uniform`] gives thresholds below which a fraction of them lies.
///
/// # Errors
/// Where the model refuses the tokens, and where `progress` breaks off. Activations that are not
/// finite are reported when thresholds are asked for.
pub fn calibrate<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    windows: &[&[u32]],
    progress: &ProgressSink,
) -> Result<Arc<ActivationStatistics>, Error> {
    const DOING: &str = "calibrating gates";
    let statistics = Arc::new(ActivationStatistics::default());
    let recording = gated(model, |layer| Recording::new(&gate(layer), statistics.clone()));
    let total = windows.len() as u64;
    for (window, done) in windows.iter().zip(1..) {
        recording.forward_uncached(&[span(window)])?;
        progress.working(DOING, done, total)?;
    }
    Ok(statistics)
}

/// `model` with `thresholds` behind its gates. For what they leave out not to be read, the codes of its
/// `down_proj` are in the order of [`down_by_channels`](super::griffin::down_by_channels).
///
/// # Errors
/// Where a layer has no threshold.
pub fn thresholded<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    thresholds: &Thresholds,
) -> Result<GatedGlm<B, L, Magnitude, E>, Error> {
    let policies = policies(model.layers.len(), thresholds)?;
    Ok(gated(model, |layer| policies[layer].clone()))
}

/// `model` with `thresholds` behind its gates, and each `down_proj` whose channels have at least
/// `shortest_run` bytes in the order that leaves zeros out.
///
/// # Errors
/// Where a layer has no threshold.
pub fn gated_by_channels<B: LmBackend>(
    model: QuantizedGlm<B>,
    thresholds: &Thresholds,
    shortest_run: usize,
) -> Result<GatedByChannelsGlm<B>, Error> {
    let policies = policies(model.layers.len(), thresholds)?;
    Ok(model.map_feed_forwards(|layer, mlp: SwiGlu<B, QuantizedLinear<B>>| {
        let down_proj = AnyOrder::by_channel(mlp.down_proj, shortest_run);
        GatedFeedForward::new(mlp.gate_up_proj, down_proj, policies[layer].clone())
    }))
}

/// Counts what `thresholds` leave out of the blocks over `windows` of tokens, of a model whose matrices
/// are in the orders of [`gated_by_channels`].
///
/// # Errors
/// Where a layer has no threshold, and where there are no tokens.
pub fn count<B: LmBackend>(
    model: &QuantizedGlm<B>,
    thresholds: &Thresholds,
    windows: &[&[u32]],
    shortest_run: usize,
) -> Result<Counted, Error> {
    let counter = closed_gates(model, thresholds, windows)?;
    let (mut weights, mut skipped, mut skipped_bytes) = (0.0, 0.0, 0.0);
    for (layer, block) in model.layers.iter().enumerate() {
        let attention = &block.self_attn;
        let down_proj = &block.mlp.down_proj;
        let projections = [
            &attention.q_proj,
            &attention.k_proj,
            &attention.v_proj,
            &attention.o_proj,
            &block.mlp.gate_up_proj,
            down_proj,
        ];
        weights += projections.map(parameters).iter().sum::<f64>();
        let zeros = zeros(&counter, layer)?;
        skipped += zeros * parameters(down_proj);
        let ([_, neurons], run) = (down_proj.shape(), channel_bytes(down_proj));
        if run >= shortest_run {
            skipped_bytes += zeros * (neurons * run) as f64;
        }
    }
    let sparsity = if weights > 0.0 { skipped / weights } else { 0.0 };
    Ok(Counted { sparsity, skipped_bytes: skipped_bytes as usize })
}

/// The fraction of the weights of the feed-forward parts that a token of `check` does without on
/// average, with `thresholds` at work in all layers: of `down_proj` alone, as gates are known only
/// when gate and up have been computed, so that it is a third at most.
///
/// # Errors
/// Where a layer has no threshold, there are no tokens, or activations are not finite.
pub fn left_out<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    thresholds: &Thresholds,
    check: &[u32],
) -> Result<f64, Error> {
    let counter = closed_gates(model, thresholds, &[check])?;
    let (mut weights, mut skipped) = (0.0, 0.0);
    for (layer, block) in model.layers.iter().enumerate() {
        weights += parameters(&block.mlp.gate_up_proj) + parameters(&block.mlp.down_proj);
        skipped += zeros(&counter, layer)? * parameters(&block.mlp.down_proj);
    }
    Ok(if weights > 0.0 { skipped / weights } else { 0.0 })
}

/// How often gates are closed over `windows`, with `thresholds` at work in all layers.
fn closed_gates<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    thresholds: &Thresholds,
    windows: &[&[u32]],
) -> Result<Arc<ActivationStatistics>, Error> {
    let counter = Arc::new(ActivationStatistics::default());
    let counting = thresholded(model, thresholds)?.map_feed_forwards(|layer, mlp| {
        let GatedFeedForward { gate_up_proj, down_proj, policy, .. } = mlp;
        let counting = Recording::new(&gate(layer), counter.clone());
        let down_proj = SparseLinear::new(down_proj, counting);
        GatedFeedForward::new(gate_up_proj, down_proj, policy)
    });
    for window in windows {
        counting.forward_uncached(&[span(window)])?;
    }
    Ok(counter)
}

fn zeros(counter: &ActivationStatistics, layer: usize) -> Result<f64, SparseModelError> {
    counter.zeros(&gate(layer)).ok_or_else(|| SparseModelError::NotRun { name: gate(layer) })
}

fn parameters<B: LmBackend, L: Linear<B>>(linear: &L) -> f64 {
    let [n, k] = linear.shape();
    (n * k) as f64
}

fn policies(layers: usize, thresholds: &Thresholds) -> Result<Vec<Magnitude>, Error> {
    let policy = |layer| Ok(Magnitude { threshold: thresholds.get(&gate(layer))? });
    (0..layers).map(policy).collect()
}

/// What thresholds call the gates of a layer.
pub(super) fn gate(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.gate")
}

fn gated<B: LmBackend, L: Linear<B>, P: SparsityPolicy<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    policy: impl Fn(usize) -> P,
) -> GatedGlm<B, L, P, E> {
    model.clone().map_feed_forwards(|layer, mlp: SwiGlu<B, L>| {
        GatedFeedForward::new(mlp.gate_up_proj, mlp.down_proj, policy(layer))
    })
}
