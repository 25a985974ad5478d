//! Codes chosen on a text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use burn_flex::FlexDevice;
use lightglm_core::{KvCache, KvCacheError, KvDtype, KvShape, WeightSource};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::QuantizedMatrix;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
use lightglm_quant::methods::{
    CalibrationConfig, ClipSearch, Gptq, MethodError, QuantizationMethod, SequentialLinear,
    SequentialQuantizer, calibrate, calibrate_twice,
};
use lightglm_quant::{Policy, Scheme};

use super::CalibratedMethod;
use crate::device::Cpu;
use crate::error::Error;
use crate::progress::{Progress, ProgressSink};

/// Ridge of the regression of [`CalibratedMethod::GptqMatched`], as a share of the mean of the
/// diagonal.
const RIDGE: f32 = 0.01;

/// What is under way, for progress and interruptions.
const DOING: &str = "calibrating";

/// The projections of the model (its configuration, its weights, the file that errors name) quantized as
/// `policy` says, each on what the quantized layers before it make of `tokens`. What the policy leaves dense, and
/// the tables, are not among them.
///
/// The whole model is held, dense, and every layer's Gram matrix for a moment.
///
/// # Errors
/// Where the model or the text is at fault, and where `progress` breaks off.
pub(super) fn calibrated(
    (config, source, file): (&GlmConfig, &dyn WeightSource, &Path),
    policy: &Policy,
    method: CalibratedMethod,
    tokens: &[u32],
    progress: &ProgressSink,
) -> Result<BTreeMap<String, QuantizedMatrix>, Error> {
    if tokens.is_empty() {
        return Err(MethodError::NoText { tokens: 0, least: 1 }.into());
    }
    let quantizer: Box<dyn QuantizationMethod> = match method {
        CalibratedMethod::Clip => Box::new(ClipSearch),
        CalibratedMethod::Gptq | CalibratedMethod::GptqMatched => Box::new(Gptq::default()),
    };
    let config = config.clone();
    let model = DenseGlm::<Cpu>::load(&config, source, file, LoadPrecision::Stored, &FlexDevice)?;
    // q, k, v, o, gate and up in one, down; the head.
    let total = 6 * config.num_hidden_layers as u64 + u64::from(!config.tie_word_embeddings);
    let is_stopped = Arc::new(AtomicBool::new(false));
    let (stop, done) = (Arc::clone(&is_stopped), AtomicU64::new(0));
    let (policy, progress) = (policy.clone(), progress.clone());
    // Asked before the work on a layer; once stopped, the rest of the pass is cheap.
    let scheme = move |name: &str| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if progress.report(Progress::Working { doing: DOING, done, total }).is_break() {
            stop.store(true, Ordering::Relaxed);
        }
        match policy.scheme(name) {
            Scheme::Quantized(scheme) if !stop.load(Ordering::Relaxed) => Some(scheme.weight),
            _ => None,
        }
    };
    let matching = (method == CalibratedMethod::GptqMatched).then_some(RIDGE);
    let shared = SequentialQuantizer::new(quantizer, Box::new(scheme), matching);
    let model = model.map_linears(&mut |name: &str, linear: DenseLinear<Cpu>| {
        let bias = linear.bias.map(|bias| bias.val());
        SequentialLinear::new(name, linear.weight.val(), bias, shared.clone())
    });
    let mut make_cache = |sequences, positions| {
        let (shape, dtype) = (KvShape::of(&config), KvDtype::F32);
        let cache = ContiguousKvCache::new(shape, sequences, positions, dtype, &FlexDevice);
        Ok::<Box<dyn KvCache<Cpu>>, KvCacheError>(Box::new(cache))
    };
    let defaults = CalibrationConfig::default();
    let context_length = defaults.context_length.min(config.context_length());
    let mut calibration =
        CalibrationConfig { context_length, windows_per_step: usize::MAX, ..defaults };
    let run = if matching.is_some() { calibrate_twice::<Cpu> } else { calibrate::<Cpu> };
    run(&model, &mut make_cache, tokens, &mut calibration)?;
    if is_stopped.load(Ordering::Relaxed) {
        return Err(Error::Interrupted { doing: DOING });
    }
    Ok(shared.take()?)
}
