//! Reading an adapter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use lightglm_core::ProjectionLayout;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::adapter_config::AdapterConfig;
use super::error::PeftError;
use super::layout::rows_from_file;
use super::places::{self, places};
use super::{CONFIG_FILE, MODEL_FILE, PICKLE_FILE};
use crate::lora::{Lora, LowRank};

/// Reads the adapter in `folder` for a model whose projection `name` has `shape(name)`, `[N, K]`;
/// `None` where it has no such projection, and is laid out as `layout` by the programs that make adapters
/// for it. It is called `name` and wraps the projections that the
/// file has matrices for.
///
/// # Errors
/// [`PeftError`] naming file and tensor, also for matrices that the model has no place for.
pub fn load_adapter(
    folder: &Path,
    name: &str,
    shape: &dyn Fn(&str) -> Option<[usize; 2]>,
    layout: ProjectionLayout,
) -> Result<Lora, PeftError> {
    let file = folder.join(CONFIG_FILE);
    let text = fs::read(&file).map_err(|source| PeftError::Io { file: file.clone(), source })?;
    let config = AdapterConfig::parse(&file, &text)?;
    let tensors = folder.join(MODEL_FILE);
    let pickle = folder.join(PICKLE_FILE);
    if !tensors.exists() && pickle.exists() {
        let reason = format!(
            "is a pickle, which can run code when it is read; save the adapter as {MODEL_FILE} (PEFT's \
             `save_pretrained` does)"
        );
        return Err(PeftError::malformed(&pickle, reason));
    }
    let matrices = read_matrices(&tensors, &file, &config, shape, layout)?;
    let last = |name: &String| name.rsplit('.').next().unwrap_or(name).to_owned();
    let modules: BTreeSet<String> = matrices.keys().map(last).collect();
    let config = config.lora(&file, modules.into_iter().collect())?;
    Lora::with_matrices(name, config, matrices).map_err(|source| PeftError::Config { file, source })
}

/// Which half of an adapter a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    A,
    B,
}

/// The projection that the tensor `full` belongs to, without what programs put around the model
/// (`base_model.model.`, `_orig_mod.`, `module.`), and which half of its adapter it is; `None` where it is
/// something else. Names of adapters (`.default`) are passed over.
fn place(full: &str) -> Option<(&str, Half)> {
    let mut name = full;
    while let Some(rest) =
        ["base_model.model.", "_orig_mod.", "module."].iter().find_map(|p| name.strip_prefix(p))
    {
        name = rest;
    }
    let name = name.strip_suffix(".weight")?;
    [(".lora_A", Half::A), (".lora_B", Half::B)].iter().find_map(|&(mark, half)| {
        let (module, adapter) = name.rsplit_once(mark)?;
        let is_adapter = adapter.is_empty() || adapter.starts_with('.');
        (is_adapter && !adapter[1.min(adapter.len())..].contains('.')).then_some((module, half))
    })
}

/// What a tensor is that is no half of an adapter of ours.
fn other_kind(full: &str) -> &'static str {
    match full {
        _ if full.contains("lora_embedding_") => {
            "is of an adapter of the embedding, which is not supported: only projections have adapters"
        }
        _ if full.contains("lora_magnitude_vector") => {
            "is of a DoRA adapter, which is not supported"
        }
        _ if full.contains("trainable_tokens") => "is of trained tokens, which are not supported",
        _ if full.ends_with(".bias") => "is a trained bias, which is not supported",
        _ if full.ends_with(".weight") && !full.contains(".lora_") => {
            "is a whole trained weight (modules_to_save), which is not supported"
        }
        _ => "is neither `lora_A` nor `lora_B`",
    }
}

fn read_matrices(
    file: &Path,
    config_file: &Path,
    config: &AdapterConfig,
    shape: &dyn Fn(&str) -> Option<[usize; 2]>,
    layout: ProjectionLayout,
) -> Result<BTreeMap<String, LowRank>, PeftError> {
    let io = |source| PeftError::Io { file: file.to_path_buf(), source };
    let bytes = fs::read(file).map_err(io)?;
    let tensors = SafeTensors::deserialize(&bytes);
    let tensors = tensors.map_err(|error| PeftError::malformed(file, error))?;
    let wrong = |name: &str, reason: &str| PeftError::tensor(file, name, reason);
    let mut halves: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for full in tensors.names() {
        let (module, half) = place(full).ok_or_else(|| wrong(full, other_kind(full)))?;
        let both = halves.entry(module).or_default();
        if let Some(first) = both[half as usize].replace(full) {
            let reason = format!("is the same as `{first}`: one file holds one adapter");
            return Err(wrong(full, &reason));
        }
    }
    let mut found = BTreeMap::new();
    for (module, both) in halves {
        let (full, other) = match both {
            [Some(a), Some(b)] => (a, b),
            [Some(a), None] => return Err(wrong(a, "has no `lora_B`")),
            [None, b] => return Err(wrong(b.unwrap_or(module), "has no `lora_A`")),
        };
        let places =
            places(module, shape).ok_or_else(|| wrong(full, "the model has no such projection"))?;
        // All parts read the same inputs, and one of them may be an output's half.
        let k = shape(&places[0].projection).map_or(0, |[_, k]| k);
        let n = places.iter().map(|place| place.rows.len()).sum();
        let tensor = |name: &str| tensors.tensor(name).map_err(|e| wrong(name, &e.to_string()));
        let (a, b) = (tensor(full)?, tensor(other)?);
        let unfit = |name: &str, found: &[usize], wanted: &[usize]| {
            let reason = format!("{found:?} where the projection [{n}, {k}] has {wanted:?}");
            PeftError::tensor(file, name, reason)
        };
        let &[rank, columns] = a.shape() else { return Err(wrong(full, "is not a matrix")) };
        if columns != k {
            return Err(unfit(full, a.shape(), &[rank, k]));
        }
        if b.shape() != [n, rank] {
            return Err(unfit(other, b.shape(), &[n, rank]));
        }
        let (expected, scale) = config.of_module(config_file, module)?;
        if rank != expected {
            let reason = format!("rank {rank}, the configuration has {expected}");
            return Err(wrong(full, &reason));
        }
        let (lora_a, lora_b) = (floats(file, full, &a)?, floats(file, other, &b)?);
        let lora_b = rows_from_file(layout, module, rank, lora_b)
            .ok_or_else(|| wrong(other, "has rows that make no whole heads"))?;
        let low = LowRank { rank, scale, shape: [n, k], lora_a, lora_b };
        for place in &places {
            let projection = shape(&place.projection).unwrap_or_default();
            places::add(&mut found, place, projection, &low);
        }
    }
    match found.is_empty() {
        true => Err(PeftError::malformed(file, "no matrices")),
        false => Ok(found),
    }
}

fn floats(file: &Path, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, PeftError> {
    let pairs = || view.data().chunks_exact(2).map(|b| [b[0], b[1]]);
    Ok(match view.dtype() {
        Dtype::F32 => {
            let words = view.data().chunks_exact(4);
            words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        other => return Err(PeftError::tensor(file, name, format!("{other:?} is not read"))),
    })
}
