//! From a checkpoint to a loaded model: dense, quantized on disk, or quantized while it is loaded.

use std::path::Path;
use std::sync::Arc;

use lightglm_core::{Embedding, Linear, WeightDtype, WeightSource};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, Glm, LoadPrecision, SwiGlu};
use lightglm_model::weights::check_tensors;
use lightglm_quant::formats::{GGUF_BLOCK_TYPES, ImportedCheckpoint};
use lightglm_quant::{
    CheckpointQuantizer, Policy, QuantError, QuantizedCheckpoint, QuantizedEmbedding,
    QuantizedLinear, Scheme,
};

use super::adapters::adapter_loader;
use super::copied_weights::CopiedWeights;
use super::imported::{imported, imported_scheme, is_imported};
use super::language_model::Loaded;
use super::load_options::{LoadOptions, Sparsity, Weights};
use crate::error::Error;
use crate::progress::{Progress, ProgressSink, QUANTIZING};

/// A decoder with quantized (or dense) projections: what a quantized checkpoint is loaded as.
pub type QuantizedGlm<B> =
    Glm<B, QuantizedLinear<B>, SwiGlu<B, QuantizedLinear<B>>, QuantizedEmbedding<B>>;

/// A quantized model whose parts can still be replaced.
#[derive(Debug)]
pub struct Quantized<B: LmBackend> {
    /// The decoder.
    pub model: QuantizedGlm<B>,
    /// Its scheme or policy.
    pub scheme: String,
    /// Whether any matrix is packed.
    pub integer: bool,
}

/// Loads `checkpoint` as `options` say; what they say of the device and of caches is the caller's.
///
/// # Errors
/// Where options do not fit the checkpoint ([`Error::Option`], [`Error::AlreadyQuantized`],
/// [`Error::Policy`]), before any weight is read; where the checkpoint is at fault.
pub fn load<B: LmBackend>(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    device: &B::Device,
) -> Result<Loaded<B>, Error> {
    check(checkpoint, options)?;
    if options.sparsity != Sparsity::Dense {
        let quantized = load_as(checkpoint, options, device)?;
        return crate::sparse::sparse(quantized, &options.sparsity, device);
    }
    if is_packed(checkpoint, &options.weights)? {
        let Quantized { model, scheme, integer } = load_as(checkpoint, options, device)?;
        return Ok(loaded(model, scheme, integer, checkpoint, options, device));
    }
    let (precision, wanted) = match options.weights {
        Weights::Dtype(dtype) => (LoadPrecision::Convert(dtype), dtype),
        _ => (LoadPrecision::Stored, checkpoint.stored_dtype()?),
    };
    // What another program quantized is dequantized here, as a dtype was asked for.
    let layers = imported(checkpoint)?;
    let copies = CopiedWeights(checkpoint.weights());
    let source: &dyn WeightSource = match &layers {
        Some(layers) => layers,
        None => copies.unless_mapped(options),
    };
    let (config, file) = (checkpoint.config(), checkpoint.path());
    let model = DenseGlm::load(config, source, file, precision, device)?;
    Ok(loaded(model, held::<B>(wanted, device), false, checkpoint, options, device))
}

/// Whether `weights` make any of the checkpoint's matrices packed: quantized on disk, by a policy, or
/// stored in GGUF's blocks.
pub(crate) fn is_packed(checkpoint: &Checkpoint, weights: &Weights) -> Result<bool, Error> {
    let is_quantized = QuantizedCheckpoint::is_one(checkpoint.weights());
    Ok(match weights {
        Weights::Policy(_) => true,
        Weights::Dtype(_) => is_quantized,
        Weights::Stored => {
            is_quantized || is_imported(checkpoint)? || stored_blocks(checkpoint)?.is_some()
        }
    })
}

/// The types of the blocks that a GGUF file holds its matrices in, those of the most weights first:
/// `q4_k+q6_k`; `None` where it holds none in blocks.
///
/// # Errors
/// Where the checkpoint is at fault.
pub(crate) fn stored_blocks(checkpoint: &Checkpoint) -> Result<Option<String>, Error> {
    let source = checkpoint.weights();
    let mut weights: Vec<(String, u64)> = Vec::new();
    for (name, _) in matrices(checkpoint.config()) {
        for tensor in source.stored_rows(&format!("{name}.weight"))? {
            let elements = tensor.shape.iter().product::<usize>() as u64;
            match weights.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype) {
                Some((_, count)) => *count += elements,
                None => weights.push((tensor.dtype, elements)),
            }
        }
    }
    weights.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let is_block = |(dtype, _): &(String, u64)| GGUF_BLOCK_TYPES.contains(&dtype.as_str());
    let names: Vec<String> = weights.iter().map(|(dtype, _)| dtype.to_lowercase()).collect();
    Ok(weights.iter().any(is_block).then(|| names.join("+")))
}

/// Refuses what does not go together, before weights are read.
pub(crate) fn check(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<(), Error> {
    options.check()?;
    let is_quantized = QuantizedCheckpoint::is_one(checkpoint.weights());
    let is_imported = is_imported(checkpoint)?;
    match &options.weights {
        Weights::Policy(_) if is_imported => {
            Err(Error::AlreadyQuantized { file: checkpoint.path().to_owned() })
        }
        Weights::Dtype(_) | Weights::Policy(_) if is_quantized => {
            Err(Error::AlreadyQuantized { file: checkpoint.path().to_owned() })
        }
        Weights::Policy(policy) => {
            let names = matrices(checkpoint.config());
            Ok(policy.check_names(names.iter().map(|(name, _)| name.as_str()))?)
        }
        Weights::Dtype(_) if options.sparsity != Sparsity::Dense => {
            let reason = "a sparse model is held as stored or quantized, not converted".to_owned();
            Err(Error::Option { option: "weights", reason })
        }
        _ => Ok(()),
    }
}

fn loaded<B, L, E>(
    model: Glm<B, L, SwiGlu<B, L>, E>,
    scheme: String,
    integer: bool,
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    device: &B::Device,
) -> Loaded<B>
where
    B: LmBackend,
    L: Linear<B> + Send + Sync + 'static,
    E: Embedding<B> + Send + Sync + 'static,
{
    let model = Arc::new(model);
    let adapters = options.adapters.clone();
    let adapters = adapters.map(|folder| adapter_loader(Arc::clone(&model), checkpoint, folder));
    Loaded { adapters, ..Loaded::new(model, scheme, integer, device) }
}

/// A model whose projections can be sparse or cut: quantized on disk, quantized as the policy says,
/// or stored dense and held as it is.
///
/// # Errors
/// As [`load`].
pub fn load_quantized<B: LmBackend>(
    checkpoint: &Checkpoint,
    weights: &Weights,
    progress: &ProgressSink,
    device: &B::Device,
) -> Result<Quantized<B>, Error> {
    let (weights, progress) = (weights.clone(), progress.clone());
    load_as(checkpoint, &LoadOptions { weights, progress, ..LoadOptions::default() }, device)
}

/// As [`load_quantized`], of all options.
pub(crate) fn load_as<B: LmBackend>(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    device: &B::Device,
) -> Result<Quantized<B>, Error> {
    let (config, file, progress) = (checkpoint.config(), checkpoint.path(), &options.progress);
    let layers = imported(checkpoint)?;
    let weights: &dyn WeightSource = match &layers {
        Some(layers) => layers,
        None => checkpoint.weights(),
    };
    let copies = CopiedWeights(weights);
    let source = copies.unless_mapped(options);
    if QuantizedCheckpoint::is_one(source) {
        return open_packed(config, source, file, device);
    }
    match &options.weights {
        Weights::Policy(policy) => quantize_source(config, source, file, policy, progress, device),
        Weights::Stored | Weights::Dtype(_) => {
            if layers.is_some() {
                // What the decoder does not ask for would be passed over in silence.
                check_tensors(source, config, file)?;
            }
            let nothing = Policy::new([])?;
            let source = Source { weights: source, imported: layers.as_deref() };
            let stored = quantize_from(config, source, file, &nothing, progress, device)?;
            let scheme = match &layers {
                Some(layers) => imported_scheme(&**layers, file)?,
                None => match stored_blocks(checkpoint)? {
                    Some(blocks) => blocks,
                    None => held::<B>(checkpoint.stored_dtype()?, device),
                },
            };
            Ok(Quantized { scheme, ..stored })
        }
    }
}

/// A quantized checkpoint, mapped.
fn open_packed<B: LmBackend>(
    config: &GlmConfig,
    source: &dyn WeightSource,
    file: &Path,
    device: &B::Device,
) -> Result<Quantized<B>, Error> {
    let quantized = QuantizedCheckpoint::open(source, file)?;
    let scheme = quantized.index().policy().to_owned();
    let is_packed = |scheme: Scheme| scheme != Scheme::Dense;
    let integer = quantized.index().matrices().any(|(_, entry)| is_packed(entry.scheme));
    let model = Glm::from_parts(config, &quantized, device)?;
    Ok(Quantized { model, scheme: short(&scheme), integer })
}

/// A model quantized as it is read from `source`, which `file` names in errors.
///
/// # Errors
/// Where the source is at fault, the policy does not fit it, or `progress` breaks off.
pub fn quantize_source<B: LmBackend>(
    config: &GlmConfig,
    source: &dyn WeightSource,
    file: &Path,
    policy: &Policy,
    progress: &ProgressSink,
    device: &B::Device,
) -> Result<Quantized<B>, Error> {
    let source = Source { weights: source, imported: None };
    quantize_from(config, source, file, policy, progress, device)
}

/// Weights, and the layers of them that another program quantized.
#[derive(Clone, Copy)]
struct Source<'a> {
    weights: &'a dyn WeightSource,
    imported: Option<&'a dyn ImportedCheckpoint>,
}

fn quantize_from<B: LmBackend>(
    config: &GlmConfig,
    source: Source<'_>,
    file: &Path,
    policy: &Policy,
    progress: &ProgressSink,
    device: &B::Device,
) -> Result<Quantized<B>, Error> {
    let names = matrices(config);
    policy.check_names(names.iter().map(|(name, _)| name.as_str()))?;
    let total = names.iter().map(|(_, [n, k])| (n * k) as u64).sum();
    let doing = if policy.rules().next().is_some() { QUANTIZING } else { "loading" };
    let tell = progress.weights(|done| match doing {
        QUANTIZING => Progress::Quantizing { done, total },
        doing => Progress::Working { doing, done, total },
    });
    let quantizer = CheckpointQuantizer::new(source.weights, file, policy)
        .with_imported(source.imported)
        .with_progress(&tell);
    let model = Glm::from_parts(config, &quantizer, device);
    let model = model.map_err(|error| interrupted(error, doing))?;
    let mut integer = false;
    for (name, shape) in &names {
        integer |= quantizer.scheme(name, *shape)? != Scheme::Dense;
    }
    Ok(Quantized { model, scheme: short(&policy.to_string()), integer })
}

/// A dense model of a source without a file (random weights, say), which `file` names in errors.
///
/// # Errors
/// Where the source is at fault.
pub fn load_source<B: LmBackend>(
    config: &GlmConfig,
    source: &dyn WeightSource,
    file: &Path,
    precision: WeightDtype,
    device: &B::Device,
) -> Result<Loaded<B>, Error> {
    let model = DenseGlm::load(config, source, file, LoadPrecision::Stored, device)?;
    let scheme = held::<B>(precision, device);
    Ok(Loaded::new(Arc::new(model), scheme, false, device))
}

impl<B: LmBackend> Quantized<B> {
    /// As a model whose parts are not replaced any more.
    pub fn into_loaded(self, device: &B::Device) -> Loaded<B> {
        Loaded::new(Arc::new(self.model), self.scheme, self.integer, device)
    }
}

/// The error of this crate; one that was stopped says what it was doing.
pub(crate) fn interrupted(error: QuantError, doing: &'static str) -> Error {
    match error {
        QuantError::Interrupted { .. } => Error::Interrupted { doing },
        error => error.into(),
    }
}

/// What weights in `precision` are held in: f32 where the device has no arithmetic for it.
fn held<B: LmBackend>(precision: WeightDtype, device: &B::Device) -> String {
    let dtype = match precision {
        WeightDtype::F32 => burn::tensor::DType::F32,
        WeightDtype::F16 => burn::tensor::DType::F16,
        WeightDtype::Bf16 => burn::tensor::DType::BF16,
    };
    let held = if B::supports_dtype(device, dtype) { precision } else { WeightDtype::F32 };
    held.name().to_lowercase()
}

/// `*=int8` is called `int8`.
fn short(policy: &str) -> String {
    policy.strip_prefix("*=").filter(|rest| !rest.contains(',')).unwrap_or(policy).to_owned()
}

/// The embedding table's name without `.weight`.
#[cfg(feature = "train")]
pub(crate) const EMBEDDING: &str = "model.embed_tokens";

/// The model's matrices: names without `.weight`, and shapes `[N, K]`.
pub fn matrices(config: &GlmConfig) -> Vec<(String, [usize; 2])> {
    let matrix = |(name, shape): (String, Vec<usize>)| {
        let shape = <[usize; 2]>::try_from(shape).ok()?;
        Some((name.strip_suffix(".weight")?.to_owned(), shape))
    };
    config.tensor_shapes().into_iter().filter_map(matrix).collect()
}
