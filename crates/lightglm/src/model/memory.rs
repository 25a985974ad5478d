//! What a model takes, against what the machine has: refused before anything is allocated.

use lightglm_core::{KvShape, WeightDtype, WeightSource};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::{CheckpointQuantizer, Footprint, Policy, QuantizedCheckpoint, Scheme};

use super::imported::{imported, is_imported};
use super::load::matrices;
use super::load_options::{LoadOptions, Weights};
use crate::device::Device;
use crate::error::Error;

/// Schemes that are named where another one does not fit, the best first.
const SMALLER: [&str; 2] = ["int8", "int4"];

/// Bytes of memory that a program can still have: what the system calls available, or what the control
/// group that the program runs in leaves it.
pub(crate) fn available_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let available = system.available_memory();
    match system.cgroup_limits() {
        // A group's pages of files count as used there, though they can be had back.
        Some(limits) if limits.total_memory < system.total_memory() => {
            let used = limits.rss.min(limits.total_memory);
            available.min(limits.total_memory - used)
        }
        _ => available,
    }
}

/// Bytes of the matrices of `checkpoint`, held as `weights` say.
///
/// # Errors
/// Where the checkpoint is at fault, or a scheme does not fit a matrix.
pub(crate) fn weight_bytes(checkpoint: &Checkpoint, weights: &Weights) -> Result<u64, Error> {
    let file = checkpoint.path();
    if QuantizedCheckpoint::is_one(checkpoint.weights()) {
        let quantized = QuantizedCheckpoint::open(checkpoint.weights(), file)?;
        return Ok(quantized.footprint()?.bytes);
    }
    let nothing = Policy::new([])?;
    let policy = if let Weights::Policy(policy) = weights { policy } else { &nothing };
    let layers = imported(checkpoint)?;
    let source: &dyn WeightSource = match &layers {
        Some(layers) => layers,
        None => checkpoint.weights(),
    };
    let quantizer = CheckpointQuantizer::new(source, file, policy).with_imported(layers.as_deref());
    let mut bytes = 0;
    for (name, shape) in matrices(checkpoint.config()) {
        let (scheme, dense) = match weights {
            Weights::Dtype(dtype) => (Scheme::Dense, dtype.size()),
            _ => match quantizer.scheme(&name, shape)? {
                Scheme::Dense => (Scheme::Dense, stored_size(source, &name)?),
                scheme => (scheme, 0),
            },
        };
        bytes += Footprint::of(&name, shape, scheme, 8 * dense as u64)?.bytes;
    }
    Ok(bytes)
}

/// Bytes of an element of the dense matrix `name`. Rows of several types come as f32.
fn stored_size(source: &dyn WeightSource, name: &str) -> Result<usize, Error> {
    let rows = source.stored_rows(&format!("{name}.weight"))?;
    let known = [WeightDtype::F16, WeightDtype::Bf16, WeightDtype::F32];
    let size = |dtype: &str| known.iter().find(|known| known.name() == dtype).map(|d| d.size());
    let alike = rows.windows(2).all(|pair| pair[0].dtype == pair[1].dtype);
    let first = rows.first().filter(|_| alike).and_then(|stored| size(&stored.dtype));
    Ok(first.unwrap_or(WeightDtype::F32.size()))
}

/// Refuses a model whose weights, with the keys and values of one conversation of the longest length, are
/// more than the options or the machine leave it. A device of its own is asked for memory by its driver.
///
/// # Errors
/// [`Error::Memory`]; where the checkpoint is at fault.
pub(crate) fn check_memory(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<(), Error> {
    if options.device != Device::Cpu || options.memory == Some(u64::MAX) {
        return Ok(());
    }
    let config = checkpoint.config();
    let positions = options.max_context_of(checkpoint) as u64;
    let kv_cache = positions * KvShape::from(config).bytes_per_position(options.kv_dtype) as u64;
    let available = options.memory.unwrap_or_else(available_memory);
    let weights = weight_bytes(checkpoint, &options.weights)?;
    if weights.saturating_add(kv_cache) <= available {
        return Ok(());
    }
    let mut fitting = None;
    if !QuantizedCheckpoint::is_one(checkpoint.weights()) && !is_imported(checkpoint)? {
        for name in SMALLER {
            // A scheme that does not fit the model's shapes is none to name.
            let bytes = weight_bytes(checkpoint, &Weights::scheme(name)?).unwrap_or(u64::MAX);
            if bytes < weights && bytes.saturating_add(kv_cache) <= available {
                fitting = Some((name, bytes));
                break;
            }
        }
    }
    let file = checkpoint.path().to_owned();
    Err(Error::Memory { file, weights, kv_cache, positions, available, fitting })
}
