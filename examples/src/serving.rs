//! Any model as one type: dense, quantized on disk, or quantized while it is loaded.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use lightglm_core::{CausalLm, Embedding, FeedForward, Linear, WeightSource};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, Glm, LoadPrecision, SwiGlu};
use lightglm_quant::{
    CheckpointQuantizer, Policy, QuantizedCheckpoint, QuantizedEmbedding, QuantizedLinear, Scheme,
};

use crate::precision::Precision;

/// A language model that knows what a step of it reads.
pub trait ServedModel<B: LmBackend>: CausalLm<B> {
    /// Bytes of weights that one step of `rows` rows must read.
    fn bytes_read(&self, rows: usize) -> usize;
}

impl<B: LmBackend, L: Linear<B>, F: FeedForward<B>, E: Embedding<B>> ServedModel<B>
    for Glm<B, L, F, E>
{
    fn bytes_read(&self, rows: usize) -> usize {
        Glm::bytes_read(self, rows)
    }
}

/// A loaded model.
pub struct Served<B: LmBackend> {
    /// The model.
    pub model: Box<dyn ServedModel<B>>,
    /// How its weights are held: `bf16`, `int8`, a policy.
    pub scheme: String,
    /// Whether projections multiply integers.
    pub integer: bool,
}

/// Loads `checkpoint`: as it is, quantized or dense; or, where `policy` is given, quantized as it is
/// read.
///
/// # Errors
/// Where the checkpoint is at fault, where a policy does not fit it, and where a quantized checkpoint
/// is to be converted or quantized again.
pub fn serve<B: LmBackend>(
    checkpoint: &Checkpoint,
    policy: Option<&Policy>,
    precision: Option<Precision>,
    device: &B::Device,
) -> Result<Served<B>> {
    let (config, source, file) = (checkpoint.config(), checkpoint.weights(), checkpoint.path());
    if QuantizedCheckpoint::is_one(source) {
        ensure!(policy.is_none(), "{}: is quantized already, without --scheme", file.display());
        ensure!(precision.is_none(), "{}: is quantized, without --dtype", file.display());
        return open_quantized(checkpoint, device).map(Into::into);
    }
    match policy {
        Some(policy) => {
            ensure!(
                precision.is_none(),
                "--dtype is for dense models, --scheme for quantized ones"
            );
            quantize_source(config, source, file, policy, device).map(Into::into)
        }
        None => {
            let (model, scheme) = load_dense::<B>(checkpoint, precision, device)?;
            Ok(Served { model: Box::new(model), scheme, integer: false })
        }
    }
}

/// A dense checkpoint in `precision`, or as it is stored, and how it is held.
///
/// # Errors
/// Where the checkpoint is at fault.
pub fn load_dense<B: LmBackend>(
    checkpoint: &Checkpoint,
    precision: Option<Precision>,
    device: &B::Device,
) -> Result<(DenseGlm<B>, String)> {
    let wanted = match precision {
        Some(precision) => precision,
        None => checkpoint.stored_dtype()?.into(),
    };
    let model = checkpoint.load::<B>(Precision::load(precision), device)?;
    Ok((model, held::<B>(wanted, device)))
}

/// What weights in `precision` are held in: f32 where the device has no arithmetic for it.
fn held<B: LmBackend>(precision: Precision, device: &B::Device) -> String {
    let held = match B::supports_dtype(device, precision.kv().into()) {
        true => precision,
        false => Precision::F32,
    };
    held.weight().name().to_lowercase()
}

/// As [`serve`], for a source without a file: random weights in `precision`.
///
/// # Errors
/// As [`serve`].
pub fn serve_source<B: LmBackend>(
    config: &GlmConfig,
    source: &dyn WeightSource,
    file: &Path,
    policy: Option<&Policy>,
    precision: Precision,
    device: &B::Device,
) -> Result<Served<B>> {
    match policy {
        Some(policy) => quantize_source(config, source, file, policy, device).map(Into::into),
        None => {
            let model = DenseGlm::load(config, source, file, LoadPrecision::Stored, device)?;
            let scheme = held::<B>(precision, device);
            Ok(Served { model: Box::new(model), scheme, integer: false })
        }
    }
}

/// A decoder with quantized projections.
pub type QuantizedGlm<B> =
    Glm<B, QuantizedLinear<B>, SwiGlu<B, QuantizedLinear<B>>, QuantizedEmbedding<B>>;

/// A quantized model whose parts can still be replaced.
pub struct Quantized<B: LmBackend> {
    /// The decoder.
    pub model: QuantizedGlm<B>,
    /// Its scheme or policy.
    pub scheme: String,
    /// Whether any matrix is packed.
    pub integer: bool,
}

impl<B: LmBackend> From<Quantized<B>> for Served<B> {
    fn from(Quantized { model, scheme, integer }: Quantized<B>) -> Self {
        Self { model: Box::new(model), scheme, integer }
    }
}

/// A model that is quantized, on disk or as `policy` says, and whose parts can be replaced.
///
/// # Errors
/// Where the checkpoint is at fault, where a policy does not fit it, and where there is one too many
/// or none.
pub fn quantized<B: LmBackend>(
    checkpoint: &Checkpoint,
    policy: Option<&Policy>,
    device: &B::Device,
) -> Result<Quantized<B>> {
    let (config, source, file) = (checkpoint.config(), checkpoint.weights(), checkpoint.path());
    match (policy, QuantizedCheckpoint::is_one(source)) {
        (None, true) => open_quantized(checkpoint, device),
        (Some(policy), false) => quantize_source(config, source, file, policy, device),
        (Some(_), true) => {
            bail!("{}: is quantized already, without --scheme", file.display())
        }
        (None, false) => bail!("{}: is not quantized: with --scheme or --policy", file.display()),
    }
}

/// A quantized checkpoint, mapped.
///
/// # Errors
/// Where the checkpoint is at fault.
pub fn open_quantized<B: LmBackend>(
    checkpoint: &Checkpoint,
    device: &B::Device,
) -> Result<Quantized<B>> {
    let (config, source, file) = (checkpoint.config(), checkpoint.weights(), checkpoint.path());
    let quantized = QuantizedCheckpoint::open(source, file)?;
    let scheme = quantized.index().policy().to_owned();
    let is_packed = |scheme: Scheme| scheme != Scheme::Dense;
    let integer = quantized.index().matrices().any(|(_, entry)| is_packed(entry.scheme));
    let model = Glm::from_parts(config, &quantized, device)?;
    Ok(Quantized { model, scheme: short(&scheme), integer })
}

/// A model quantized as it is read.
///
/// # Errors
/// Where the source is at fault or the policy does not fit it.
pub fn quantize_source<B: LmBackend>(
    config: &GlmConfig,
    source: &dyn WeightSource,
    file: &Path,
    policy: &Policy,
    device: &B::Device,
) -> Result<Quantized<B>> {
    let names = matrices(config);
    policy.check_names(names.iter().map(|(name, _)| name.as_str()))?;
    let bar = weights_bar(names.iter().map(|(_, [n, k])| (n * k) as u64).sum())?;
    let progress = |weights| {
        bar.inc(weights);
        ControlFlow::Continue(())
    };
    let quantizer = CheckpointQuantizer::new(source, file, policy).with_progress(&progress);
    let model = Glm::from_parts(config, &quantizer, device)?;
    bar.finish_and_clear();
    let integer = names.iter().any(|(name, _)| policy.scheme(name) != Scheme::Dense);
    Ok(Quantized { model, scheme: short(&policy.to_string()), integer })
}

/// `*=int8` is called `int8`.
fn short(policy: &str) -> String {
    policy.strip_prefix("*=").filter(|rest| !rest.contains(',')).unwrap_or(policy).to_owned()
}

/// The model's matrices: names without `.weight`, and shapes.
pub fn matrices(config: &GlmConfig) -> Vec<(String, [usize; 2])> {
    let matrix = |(name, shape): (String, Vec<usize>)| {
        let shape = <[usize; 2]>::try_from(shape).ok()?;
        Some((name.strip_suffix(".weight")?.to_owned(), shape))
    };
    config.tensor_shapes().into_iter().filter_map(matrix).collect()
}

/// A bar for so many weights.
///
/// # Errors
/// Never, unless its template is wrong.
pub fn weights_bar(weights: u64) -> Result<ProgressBar> {
    let style = "quantizing {bar:40} {human_pos}/{human_len} weights, {eta} left";
    Ok(ProgressBar::new(weights).with_style(ProgressStyle::with_template(style)?))
}

/// `--scheme` or `--policy`, whichever is given.
///
/// # Errors
/// Where both are.
pub fn policy_of(scheme: Option<Scheme>, policy: Option<Policy>) -> Result<Option<Policy>> {
    match (scheme, policy) {
        (Some(_), Some(_)) => bail!("--scheme and --policy exclude each other"),
        (scheme, policy) => Ok(policy.or(scheme.map(Policy::uniform))),
    }
}

/// How many matrices become what: `169 x int4, 1 x int8wo`.
pub fn describe(policy: &Policy, config: &GlmConfig) -> String {
    let mut counts: Vec<(Scheme, usize)> = Vec::new();
    for (name, _) in matrices(config) {
        let scheme = policy.scheme(&name);
        match counts.iter_mut().find(|(known, _)| *known == scheme) {
            Some((_, count)) => *count += 1,
            None => counts.push((scheme, 1)),
        }
    }
    let mut text = String::new();
    for (scheme, count) in counts {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{count} x {scheme}");
    }
    text
}
