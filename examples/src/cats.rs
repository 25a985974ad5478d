//! CATS: neurons whose gate is nearly closed are left out, by a threshold for each layer.
//!
//! Source: Lee et al. 2024, "CATS: Contextually-Aware Thresholding for Sparsity in Large Language
//! Models", section 3.

use std::sync::Arc;

use anyhow::{Context, Result};
use lightglm_core::{Embedding, FeedForward, Linear, LogitRows, SequenceId, Span};
use lightglm_kernels::LmBackend;
use lightglm_model::decoder::{Glm, SwiGlu};
use lightglm_sparse::{
    Calibration, GatedFeedForward, Magnitude, Recording, SparseLinear, SparsityPolicy, Thresholds,
};

use crate::griffin::GlmOf;

/// A decoder whose feed-forward parts have a policy behind their gates.
pub type GatedGlm<B, L, P, E> = Glm<B, L, GatedFeedForward<B, L, L, P>, E>;

/// Thresholds on `|silu(gate)|` of each layer, below which the fraction `sparsity` of them lies on the
/// tokens `calibrate`.
///
/// # Errors
/// Where there are no tokens, or activations are not finite.
pub fn thresholds<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    sparsity: f64,
    calibrate: &[u32],
) -> Result<Thresholds> {
    let calibration = Arc::new(Calibration::default());
    let policy = |layer| Recording::new(&gate(layer), calibration.clone());
    run(&gated(model, policy), calibrate)?;
    Ok(calibration.uniform(sparsity)?)
}

/// `model` with `thresholds` behind its gates. For what they leave out not to be read, the codes of its
/// `down_proj` are in the order of [`down_by_channels`](crate::griffin::down_by_channels).
///
/// # Errors
/// Where a layer has no threshold.
pub fn thresholded<B: LmBackend, L: Linear<B>, E: Embedding<B>>(
    model: &GlmOf<B, L, E>,
    thresholds: &Thresholds,
) -> Result<GatedGlm<B, L, Magnitude, E>> {
    let layers = 0..model.layers.len();
    let policies = layers.map(|layer| Ok(Magnitude { threshold: thresholds.get(&gate(layer))? }));
    let policies: Vec<Magnitude> = policies.collect::<Result<_>>()?;
    Ok(gated(model, |layer| policies[layer].clone()))
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
) -> Result<f64> {
    let counter = Arc::new(Calibration::default());
    let counting = thresholded(model, thresholds)?.map_feed_forwards(|layer, mlp| {
        let GatedFeedForward { gate_up_proj, down_proj, policy, .. } = mlp;
        let counting = Recording::new(&gate(layer), counter.clone());
        let down_proj = SparseLinear::new(down_proj, counting);
        GatedFeedForward::new(gate_up_proj, down_proj, policy)
    });
    run(&counting, check)?;
    let (mut weights, mut skipped) = (0.0, 0.0);
    for (layer, block) in model.layers.iter().enumerate() {
        let [gates_and_ups, hidden] = block.mlp.gate_up_proj.shape();
        let neurons = (gates_and_ups / 2 * hidden) as f64;
        let zeros = counter.zeros(&gate(layer)).context("no token was run")?;
        weights += 3.0 * neurons;
        skipped += zeros * neurons;
    }
    Ok(if weights > 0.0 { skipped / weights } else { 0.0 })
}

fn gate(layer: usize) -> String {
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

fn run<B: LmBackend, L: Linear<B>, F: FeedForward<B>, E: Embedding<B>>(
    model: &Glm<B, L, F, E>,
    tokens: &[u32],
) -> Result<()> {
    let span = Span { sequence: SequenceId(0), tokens, logits: LogitRows::Last };
    model.forward_uncached(&[span])?;
    Ok(())
}
