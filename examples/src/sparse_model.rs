//! A quantized model made sparse: calibrated, masked, and in the order that leaves zeros out.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lightglm_core::{LogitRows, SequenceId, Span};
use lightglm_kernels::{CodeOrder, LmBackend, PackedSizes};
use lightglm_quant::{MatrixWeight, QuantizedLinear};
use lightglm_sparse::{Calibration, Magnitude, RecordingLinear, SparseLinear, Thresholds};

use crate::serving::{QuantizedGlm, ServedModel};

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
    let span = |tokens| Span { sequence: SequenceId(0), tokens, logits: LogitRows::Last };
    let calibration = Arc::new(Calibration::default());
    // Name, weights and bytes of codes of each projection of the blocks.
    let (mut sizes, mut dense) = (Vec::new(), None);
    let recording = model.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        match &linear.weight {
            _ if name == "lm_head" => {}
            MatrixWeight::Packed(packed) => {
                let ([n, k], format) = (packed.shape(), packed.format());
                sizes.push((name.to_owned(), n * k, PackedSizes::new([n, k], format).codes));
            }
            MatrixWeight::Dense(_) => dense = dense.take().or(Some(name.to_owned())),
        }
        RecordingLinear::new(name, linear, calibration.clone())
    });
    if let Some(name) = dense {
        bail!("`{name}` is not quantized: nothing of it can be left out yet");
    }
    recording.forward_uncached(&[span(calibrate)])?;
    drop(recording);
    let thresholds = calibration.uniform(sparsity)?;
    let policies = sizes
        .iter()
        .map(|(name, ..)| Ok((name.as_str(), Magnitude { threshold: thresholds.get(name)? })));
    let policies: BTreeMap<&str, Magnitude> = policies.collect::<Result<_>>()?;
    // What has no policy stays dense.
    let policy = |name: &str| policies.get(name).cloned().unwrap_or(Magnitude { threshold: 0.0 });

    let counter = Arc::new(Calibration::default());
    let counting = model.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        SparseLinear::new(RecordingLinear::new(name, linear, counter.clone()), policy(name))
    });
    counting.forward_uncached(&[span(check)])?;
    drop(counting);
    let (mut weights, mut skipped, mut skipped_bytes) = (0.0, 0.0, 0.0);
    for (name, count, codes) in &sizes {
        let zeros = counter.zeros(name).with_context(|| format!("`{name}` was not run"))?;
        weights += *count as f64;
        skipped += zeros * *count as f64;
        skipped_bytes += zeros * *codes as f64;
    }

    let model = model.map_linears(&mut |name: &str, QuantizedLinear { weight, bias }| {
        let weight = match weight {
            MatrixWeight::Packed(packed) if policies.contains_key(name) => {
                MatrixWeight::Packed(packed.with_order(CodeOrder::Channels))
            }
            other => other,
        };
        SparseLinear::new(QuantizedLinear { weight, bias }, policy(name))
    });
    Ok(SparseModel {
        model: Box::new(model),
        thresholds,
        sparsity: if weights > 0.0 { skipped / weights } else { 0.0 },
        skipped_bytes: skipped_bytes as usize,
    })
}
