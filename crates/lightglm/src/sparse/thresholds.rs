//! TEAL: small inputs of each projection are left out, by a threshold for each.
//!
//! Source: Liu et al. 2024, "Training-Free Activation Sparsity in Large Language Models", section 4.

use std::collections::BTreeMap;
use std::sync::Arc;

use lightglm_core::Linear;
use lightglm_kernels::LmBackend;
use lightglm_model::decoder::{Glm, SwiGlu};
use lightglm_quant::{QuantizedEmbedding, QuantizedLinear};
use lightglm_sparse::{Magnitude, ModelFingerprint, Recording, SparseLinear, Thresholds};

use super::any_order::{AnyOrder, channel_bytes};
use super::error::SparseModelError;
use super::{ActivationStatistics, Counted, span};
use crate::error::Error;
use crate::model::QuantizedGlm;
use crate::progress::ProgressSink;

/// The projection that stays dense: its outputs are the answer.
const HEAD: &str = "lm_head";

/// What has no threshold stays dense.
const DENSE: Magnitude = Magnitude { threshold: 0.0 };

type MaskedLinear<B> = SparseLinear<B, AnyOrder<B>, Magnitude>;

/// A quantized decoder with a threshold before each projection.
pub type MaskedGlm<B> = Glm<B, MaskedLinear<B>, SwiGlu<B, MaskedLinear<B>>, QuantizedEmbedding<B>>;

/// A sparse model and what was found about it.
#[derive(Debug)]
pub struct SparseModel<B: LmBackend> {
    /// The model.
    pub model: MaskedGlm<B>,
    /// What it was given.
    pub thresholds: Thresholds,
    /// What a token of the check did without.
    pub counted: Counted,
}

/// Makes `model` sparse: thresholds for `sparsity` of each projection's inputs in the decoder blocks
/// (the head stays dense), found on the tokens `calibrate_on`; what they leave out is then counted on
/// the tokens `check`, with all masks at work. `shortest_run` is that of [`masked`].
///
/// # Errors
/// Where there are no tokens, or activations are not finite.
pub fn sparsify<B: LmBackend>(
    model: QuantizedGlm<B>,
    sparsity: f64,
    calibrate_on: &[u32],
    check: &[u32],
    shortest_run: usize,
) -> Result<SparseModel<B>, Error> {
    let statistics = calibrate(&model, &[calibrate_on], &ProgressSink::default())?;
    let thresholds = statistics.thresholds(sparsity, |name| sparsity_in_blocks(name, sparsity))?;
    let counted = count(&model, &thresholds, &[check], shortest_run)?;
    let model = masked(model, &thresholds, shortest_run)?;
    Ok(SparseModel { model, thresholds, counted })
}

/// `sparsity`, or 0 for the head.
pub fn sparsity_in_blocks(name: &str, sparsity: f64) -> f64 {
    if name == HEAD { 0.0 } else { sparsity }
}

/// Which model thresholds belong to: its projections, and the weights of its norms. A scheme changes
/// neither, so that thresholds serve a model in any; what is folded into norms does.
pub fn fingerprint<B: LmBackend>(model: &QuantizedGlm<B>) -> ModelFingerprint {
    let mut shapes = Vec::new();
    let mut weights = Vec::new();
    let norms = model.layers.iter().flat_map(|block| {
        let attn = &block.self_attn;
        let some = [&block.post_self_attn_layernorm, &block.post_mlp_layernorm]
            .into_iter()
            .chain([&attn.q_norm, &attn.k_norm]);
        let before = [&block.input_layernorm, &block.post_attention_layernorm];
        before.into_iter().chain(some.flatten())
    });
    for norm in norms.chain([&model.norm]) {
        let values = norm.weight.val().into_data();
        weights.extend(values.iter::<f32>().flat_map(f32::to_le_bytes));
    }
    model.for_each_linear(|name, linear| shapes.push((name.to_owned(), linear.shape())));
    let shapes = shapes.iter().map(|(name, shape)| (name.as_str(), *shape));
    ModelFingerprint::new(shapes, &weights)
}

/// How large the inputs of each projection are over `windows` of tokens, each on its own.
///
/// # Errors
/// Where the model refuses the tokens, and where `progress` breaks off. Activations that are not
/// finite are reported when thresholds are asked for.
pub fn calibrate<B: LmBackend>(
    model: &QuantizedGlm<B>,
    windows: &[&[u32]],
    progress: &ProgressSink,
) -> Result<Arc<ActivationStatistics>, Error> {
    const DOING: &str = "calibrating";
    let statistics = Arc::new(ActivationStatistics::default());
    let recording = model.clone().map_linears(|name: &str, linear: QuantizedLinear<B>| {
        SparseLinear::new(linear, Recording::new(name, statistics.clone()))
    });
    let total = windows.len() as u64;
    for (window, done) in windows.iter().zip(1..) {
        recording.forward_uncached(&[span(window)])?;
        progress.working(DOING, done, total)?;
    }
    Ok(statistics)
}

/// Counts what `thresholds` leave out over `windows` of tokens, with all masks at work, of a model whose
/// matrices are in the orders of [`masked`].
///
/// # Errors
/// As [`masked`], and where there are no tokens.
pub fn count<B: LmBackend>(
    model: &QuantizedGlm<B>,
    thresholds: &Thresholds,
    windows: &[&[u32]],
    shortest_run: usize,
) -> Result<Counted, Error> {
    let projections = projections(model, shortest_run);
    let policies = policies(&projections, thresholds)?;
    let counter = Arc::new(ActivationStatistics::default());
    let counting = model.clone().map_linears(|name: &str, linear: QuantizedLinear<B>| {
        let policy = policies.get(name).cloned().unwrap_or(DENSE);
        let counting = SparseLinear::new(linear, Recording::new(name, counter.clone()));
        SparseLinear::new(counting, policy)
    });
    for window in windows {
        counting.forward_uncached(&[span(window)])?;
    }
    let (mut weights, mut skipped, mut skipped_bytes) = (0.0, 0.0, 0.0);
    for Projection { name, parameters, by_channel } in &projections {
        let zeros = counter.zeros(name);
        let zeros = zeros.ok_or_else(|| SparseModelError::NotRun { name: name.clone() })?;
        weights += *parameters as f64;
        skipped += zeros * *parameters as f64;
        skipped_bytes += zeros * *by_channel as f64;
    }
    let sparsity = if weights > 0.0 { skipped / weights } else { 0.0 };
    Ok(Counted { sparsity, skipped_bytes: skipped_bytes as usize })
}

/// `model` with `thresholds` before the projections of its blocks. Those whose channels have at least
/// `shortest_run` bytes ([`SHORTEST_RUN`](super::SHORTEST_RUN)) are brought into the order that leaves
/// zeros out.
///
/// # Errors
/// Where a projection of the blocks has no threshold.
pub fn masked<B: LmBackend>(
    model: QuantizedGlm<B>,
    thresholds: &Thresholds,
    shortest_run: usize,
) -> Result<MaskedGlm<B>, Error> {
    let policies = policies(&projections(&model, shortest_run), thresholds)?;
    Ok(model.map_linears(|name: &str, linear: QuantizedLinear<B>| {
        match policies.get(name).cloned() {
            Some(policy) => SparseLinear::new(AnyOrder::by_channel(linear, shortest_run), policy),
            None => SparseLinear::new(AnyOrder::AsLoaded(linear), DENSE),
        }
    }))
}

/// A projection of the blocks.
struct Projection {
    name: String,
    parameters: usize,
    /// Bytes in the order of channels.
    by_channel: usize,
}

/// The projections that can be sparse.
fn projections<B: LmBackend>(model: &QuantizedGlm<B>, shortest_run: usize) -> Vec<Projection> {
    let mut found = Vec::new();
    model.for_each_linear(|name, linear| {
        if name != HEAD {
            let ([n, k], run) = (linear.shape(), channel_bytes(linear));
            let by_channel = if run >= shortest_run { k * run } else { 0 };
            found.push(Projection { name: name.to_owned(), parameters: n * k, by_channel });
        }
    });
    found
}

/// Their names.
pub(super) fn projection_names<B: LmBackend>(model: &QuantizedGlm<B>) -> Vec<String> {
    projections(model, 0).into_iter().map(|projection| projection.name).collect()
}

fn policies(
    projections: &[Projection],
    thresholds: &Thresholds,
) -> Result<BTreeMap<String, Magnitude>, Error> {
    let policy = |projection: &Projection| {
        let threshold = thresholds.get(&projection.name)?;
        Ok((projection.name.clone(), Magnitude { threshold }))
    };
    projections.iter().map(policy).collect()
}
