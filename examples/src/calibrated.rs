//! Codes chosen on a text: what `quantize --method` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use burn_flex::{Flex, FlexDevice};
use indicatif::{ProgressBar, ProgressStyle};
use lightglm_core::{KvCache, KvCacheError};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::QuantizedMatrix;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DenseLinear, LoadPrecision};
use lightglm_quant::methods::{
    CalibrationConfig, ClipSearch, Gptq, QuantizationMethod, SequentialLinear, SequentialQuantizer,
    calibrate, calibrate_twice,
};
use lightglm_quant::{Policy, Scheme};

/// How codes are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// Round to nearest: no text is needed.
    #[default]
    Nearest,
    /// Scales that lose least on what reaches each layer.
    Clip,
    /// GPTQ: what a column loses is made good by the columns after it.
    Gptq,
    /// GPTQ on weights moved to where the quantized model gives the original's outputs.
    GptqMatched,
}

/// Ridge of the regression of [`Method::GptqMatched`], as a share of the mean of the diagonal.
const RIDGE: f32 = 0.01;

/// The projections of `checkpoint` quantized as `policy` says, each on what the quantized layers
/// before it make of `tokens`. What the policy leaves dense, and the tables, are not among them.
///
/// The whole model is held, dense, and every layer's Gram matrix for a moment.
///
/// # Errors
/// Where the model or the text is at fault, and where `stop` is raised.
pub fn calibrated(
    checkpoint: &Checkpoint,
    policy: &Policy,
    method: Method,
    tokens: &[u32],
    stop: &Arc<AtomicBool>,
) -> Result<BTreeMap<String, QuantizedMatrix>> {
    let quantizer: Box<dyn QuantizationMethod> = match method {
        Method::Nearest => return Ok(BTreeMap::new()),
        Method::Clip => Box::new(ClipSearch),
        Method::Gptq | Method::GptqMatched => Box::new(Gptq::default()),
    };
    let config = checkpoint.config().clone();
    let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice)?;
    // q, k, v, o, gate and up in one, down; the head.
    let projections = 6 * config.num_hidden_layers + usize::from(!config.tie_word_embeddings);
    let bar = ProgressBar::new(projections as u64);
    bar.set_style(ProgressStyle::with_template(
        "calibrating {bar:40} {pos}/{len} layers, {eta} left",
    )?);
    let (asked, flag, policy) = (bar.clone(), Arc::clone(stop), policy.clone());
    let scheme = move |name: &str| {
        asked.inc(1);
        match policy.scheme(name) {
            Scheme::Quantized(scheme) if !flag.load(Ordering::Relaxed) => Some(scheme.weight),
            _ => None,
        }
    };
    let matching = (method == Method::GptqMatched).then_some(RIDGE);
    let shared = SequentialQuantizer::new(quantizer, Box::new(scheme), matching);
    let model = model.map_linears(&mut |name: &str, linear: DenseLinear<Flex>| {
        let bias = linear.bias.map(|bias| bias.val());
        SequentialLinear::new(name, linear.weight.val(), bias, shared.clone())
    });
    let mut make_cache = |sequences, positions| {
        let (shape, dtype) = (KvShape::of(&config), KvDtype::F32);
        let cache = ContiguousKvCache::new(shape, sequences, positions, dtype, &FlexDevice);
        Ok::<Box<dyn KvCache<Flex>>, KvCacheError>(Box::new(cache))
    };
    let context_length =
        CalibrationConfig::default().context_length.min(config.max_position_embeddings);
    let mut calibration = CalibrationConfig {
        context_length,
        windows_per_step: usize::MAX,
        ..CalibrationConfig::default()
    };
    let run = if matching.is_some() { calibrate_twice::<Flex> } else { calibrate::<Flex> };
    run(&model, &mut make_cache, tokens, &mut calibration)?;
    bar.finish_and_clear();
    ensure!(!stop.load(Ordering::Relaxed), "interrupted while calibrating");
    Ok(shared.take()?)
}
