//! A quantized model made sparse: calibrated, masked, and in the order that leaves zeros out.

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
    let is_sparse = |name: &str| name != "lm_head";
    let span = |tokens| Span { sequence: SequenceId(0), tokens, logits: LogitRows::Last };
    let calibration = Arc::new(Calibration::default());
    let recording = |name: &str, linear| RecordingLinear::new(name, linear, calibration.clone());
    model.clone().map_linears(&mut { recording }).forward_uncached(&[span(calibrate)])?;
    let thresholds = calibration.uniform(sparsity)?;
    let policy = |name: &str| -> Result<Magnitude> {
        let threshold = if is_sparse(name) { thresholds.get(name)? } else { 0.0 };
        Ok(Magnitude { threshold })
    };

    let counter = Arc::new(Calibration::default());
    let mut failed = None;
    let mut sizes = Vec::new();
    let counting = model.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        if let (true, MatrixWeight::Packed(packed)) = (is_sparse(name), &linear.weight) {
            let [n, k] = packed.shape();
            let codes = PackedSizes::new(packed.shape(), packed.format()).codes;
            sizes.push((name.to_owned(), n * k, codes));
        }
        let policy = policy(name).unwrap_or_else(|error| {
            failed = Some(error);
            Magnitude { threshold: 0.0 }
        });
        SparseLinear::new(RecordingLinear::new(name, linear, counter.clone()), policy)
    });
    if let Some(error) = failed {
        return Err(error);
    }
    counting.forward_uncached(&[span(check)])?;
    drop(counting);
    let (mut weights, mut skipped, mut skipped_bytes) = (0.0, 0.0, 0.0);
    for (name, count, codes) in &sizes {
        let zeros = counter.zeros(name).with_context(|| format!("`{name}` was not run"))?;
        weights += *count as f64;
        skipped += zeros * *count as f64;
        skipped_bytes += zeros * *codes as f64;
    }

    let mut dense = None;
    let model = model.map_linears(&mut |name: &str, mut linear: QuantizedLinear<B>| {
        let threshold = policy(name).map_or(0.0, |policy| policy.threshold);
        if is_sparse(name) {
            linear.weight = match linear.weight {
                MatrixWeight::Packed(packed) => {
                    MatrixWeight::Packed(packed.with_order(CodeOrder::Channels))
                }
                MatrixWeight::Dense(weight) => {
                    dense.get_or_insert(name.to_owned());
                    MatrixWeight::Dense(weight)
                }
            };
        }
        SparseLinear::new(linear, Magnitude { threshold })
    });
    if let Some(name) = dense {
        bail!("`{name}` is not quantized: nothing of it can be left out yet");
    }
    Ok(SparseModel {
        model: Box::new(model),
        thresholds,
        sparsity: if weights > 0.0 { skipped / weights } else { 0.0 },
        skipped_bytes: skipped_bytes as usize,
    })
}
