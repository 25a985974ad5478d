//! A quantized model made sparse: calibrated, masked, and in the order that leaves zeros out.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lightglm_core::{Linear, LogitRows, SequenceId, Span};
use lightglm_kernels::{CodeOrder, LmBackend, PackedSizes};
use lightglm_quant::{MatrixWeight, QuantizedLinear};
use lightglm_sparse::{
    Calibration, Magnitude, ModelFingerprint, RecordingLinear, SparseLinear, Thresholds,
};

use crate::serving::{QuantizedGlm, ServedModel};

/// The projection that stays dense: its outputs are the answer.
const HEAD: &str = "lm_head";

/// A sparse model and what was found about it.
pub struct SparseModel<B: LmBackend> {
    /// The model.
    pub model: Box<dyn ServedModel<B>>,
    /// What it was given.
    pub thresholds: Thresholds,
    /// The fraction of the blocks' weights that a token of the check did without, on average.
    pub sparsity: f64,
    /// Bytes of codes that a token did without, on average.
    pub skipped_bytes: usize,
}

/// Makes `model` sparse: thresholds for `sparsity` of each projection's inputs in the decoder blocks
/// (the head stays dense), found on the tokens `calibrate`; what they leave out is then counted on
/// the tokens `check`, with all masks at work.
///
/// # Errors
/// Where there are no tokens, activations are not finite, or a projection is not quantized.
pub fn sparsify<B: LmBackend>(
    model: QuantizedGlm<B>,
    sparsity: f64,
    calibrate: &[u32],
    check: &[u32],
) -> Result<SparseModel<B>> {
    let calibration = calibrated(&model, &[calibrate], &mut |_| Ok(()))?;
    let thresholds = calibration.thresholds(sparsity, |name| sparsity_in_blocks(name, sparsity))?;
    let counted = count(&model, &thresholds, &[check])?;
    Ok(SparseModel {
        model: masked(model, &thresholds)?,
        thresholds,
        sparsity: counted.sparsity,
        skipped_bytes: counted.skipped_bytes,
    })
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
        let after = [&block.post_self_attn_layernorm, &block.post_mlp_layernorm];
        let before = [&block.input_layernorm, &block.post_attention_layernorm];
        before.into_iter().chain(after.into_iter().flatten())
    });
    for norm in norms.chain([&model.norm]) {
        let values = norm.weight.val().into_data();
        weights.extend(values.iter::<f32>().flat_map(f32::to_le_bytes));
    }
    for_each_projection(model, |name, linear| shapes.push((name.to_owned(), linear.shape())));
    let shapes = shapes.iter().map(|(name, shape)| (name.as_str(), *shape));
    ModelFingerprint::new(shapes, &weights)
}

/// How large the inputs of each projection are over `windows` of tokens, each on its own. `on_window`
/// is told how many windows are done; its error ends the run.
///
/// # Errors
/// Where a projection of the blocks is not quantized, the model refuses the tokens, and that of
/// `on_window`.
pub fn calibrated<B: LmBackend>(
    model: &QuantizedGlm<B>,
    windows: &[&[u32]],
    on_window: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Arc<Calibration>> {
    projections(model)?;
    let calibration = Arc::new(Calibration::default());
    let recording = model.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        RecordingLinear::new(name, linear, calibration.clone())
    });
    for (done, window) in windows.iter().enumerate() {
        recording.forward_uncached(&[span(window)])?;
        on_window(done + 1)?;
    }
    Ok(calibration)
}

/// What a token does without, on average.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// The fraction of the blocks' weights.
    pub sparsity: f64,
    /// Bytes of codes.
    pub skipped_bytes: usize,
}

/// Counts what `thresholds` leave out over `windows` of tokens, with all masks at work.
///
/// # Errors
/// As [`masked`], and where there are no tokens.
pub fn count<B: LmBackend>(
    model: &QuantizedGlm<B>,
    thresholds: &Thresholds,
    windows: &[&[u32]],
) -> Result<Counted> {
    let projections = projections(model)?;
    let policies = policies(&projections, thresholds)?;
    let counter = Arc::new(Calibration::default());
    let counting = model.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        let policy = policies.get(name).cloned().unwrap_or(DENSE);
        SparseLinear::new(RecordingLinear::new(name, linear, counter.clone()), policy)
    });
    for window in windows {
        counting.forward_uncached(&[span(window)])?;
    }
    let (mut weights, mut skipped, mut skipped_bytes) = (0.0, 0.0, 0.0);
    for Projection { name, parameters, code_bytes } in &projections {
        let zeros = counter.zeros(name).with_context(|| format!("`{name}` was not run"))?;
        weights += *parameters as f64;
        skipped += zeros * *parameters as f64;
        skipped_bytes += zeros * *code_bytes as f64;
    }
    let sparsity = if weights > 0.0 { skipped / weights } else { 0.0 };
    Ok(Counted { sparsity, skipped_bytes: skipped_bytes as usize })
}

/// `model` with `thresholds` before the projections of its blocks, whose codes are brought into the
/// order that leaves zeros out.
///
/// # Errors
/// Where a projection of the blocks is not quantized, or has no threshold.
pub fn masked<B: LmBackend>(
    model: QuantizedGlm<B>,
    thresholds: &Thresholds,
) -> Result<Box<dyn ServedModel<B>>> {
    let policies = policies(&projections(&model)?, thresholds)?;
    let masked = model.map_linears(&mut |name: &str, QuantizedLinear { weight, bias }| {
        let policy = policies.get(name).cloned();
        let weight = match weight {
            MatrixWeight::Packed(packed) if policy.is_some() => {
                MatrixWeight::Packed(packed.with_order(CodeOrder::Channels))
            }
            other => other,
        };
        SparseLinear::new(QuantizedLinear { weight, bias }, policy.unwrap_or(DENSE))
    });
    Ok(Box::new(masked))
}

/// What has no threshold stays dense.
const DENSE: Magnitude = Magnitude { threshold: 0.0 };

/// A projection of the blocks.
struct Projection {
    name: String,
    parameters: usize,
    code_bytes: usize,
}

/// The projections that can be sparse.
fn projections<B: LmBackend>(model: &QuantizedGlm<B>) -> Result<Vec<Projection>> {
    let (mut found, mut dense) = (Vec::new(), None);
    for_each_projection(model, |name, linear| match &linear.weight {
        _ if name == HEAD => {}
        MatrixWeight::Packed(packed) => {
            let ([n, k], format) = (packed.shape(), packed.format());
            let code_bytes = PackedSizes::new([n, k], format).codes;
            found.push(Projection { name: name.to_owned(), parameters: n * k, code_bytes });
        }
        MatrixWeight::Dense(_) => dense = dense.take().or(Some(name.to_owned())),
    });
    let dense = dense.unwrap_or_default();
    ensure!(dense.is_empty(), "`{dense}` is not quantized: nothing of it can be left out yet");
    Ok(found)
}

fn for_each_projection<B: LmBackend>(
    model: &QuantizedGlm<B>,
    mut visit: impl FnMut(&str, &QuantizedLinear<B>),
) {
    model.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        visit(name, &linear);
        linear
    });
}

fn policies(
    projections: &[Projection],
    thresholds: &Thresholds,
) -> Result<BTreeMap<String, Magnitude>> {
    let policy = |projection: &Projection| {
        let threshold = thresholds.get(&projection.name)?;
        Ok((projection.name.clone(), Magnitude { threshold }))
    };
    projections.iter().map(policy).collect()
}

fn span(tokens: &[u32]) -> Span<'_> {
    Span { sequence: SequenceId(0), tokens, logits: LogitRows::Last }
}
