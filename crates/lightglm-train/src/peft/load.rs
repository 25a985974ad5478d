//! Reading an adapter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::adapter_config::AdapterConfig;
use super::error::PeftError;
use super::{CONFIG_FILE, MODEL_FILE, PREFIX};
use crate::lora::{Lora, LowRank};

/// Reads the adapter in `folder` for a model whose projection `name` has `shape(name)`, `[N, K]`;
/// `None` where it has no such projection. It is called `name` and wraps the projections that the
/// file has matrices for.
///
/// # Errors
/// [`PeftError`] naming file and tensor, also for matrices that the model has no place for.
pub fn load_adapter(
    folder: &Path,
    name: &str,
    shape: &dyn Fn(&str) -> Option<[usize; 2]>,
) -> Result<Lora, PeftError> {
    let file = folder.join(CONFIG_FILE);
    let text = fs::read(&file).map_err(|source| PeftError::Io { file: file.clone(), source })?;
    let config = AdapterConfig::parse(&file, &text)?;
    let tensors = folder.join(MODEL_FILE);
    let matrices = read_matrices(&tensors, shape)?;
    let last = |name: &String| name.rsplit('.').next().unwrap_or(name).to_owned();
    let modules: BTreeSet<String> = matrices.keys().map(last).collect();
    let config = config.into_lora(&file, modules.into_iter().collect())?;
    if let Some((name, wrong)) = matrices.iter().find(|(_, m)| m.rank != config.rank) {
        let reason = format!("rank {}, the configuration has {}", wrong.rank, config.rank);
        let name = format!("{PREFIX}{name}.lora_A.weight");
        return Err(PeftError::tensor(&tensors, &name, reason));
    }
    Lora::with_matrices(name, config, matrices).map_err(|source| PeftError::Config { file, source })
}

fn read_matrices(
    file: &Path,
    shape: &dyn Fn(&str) -> Option<[usize; 2]>,
) -> Result<BTreeMap<String, LowRank>, PeftError> {
    let io = |source| PeftError::Io { file: file.to_path_buf(), source };
    let bytes = fs::read(file).map_err(io)?;
    let tensors = SafeTensors::deserialize(&bytes);
    let tensors = tensors.map_err(|error| PeftError::malformed(file, error))?;
    let mut found = BTreeMap::new();
    for full in tensors.names() {
        let wrong = |reason: &str| PeftError::tensor(file, full, reason);
        let module = full.strip_prefix(PREFIX);
        let module = module.ok_or_else(|| wrong("does not begin with `base_model.model.`"))?;
        let (module, is_a) = match module.strip_suffix(".lora_A.weight") {
            Some(module) => (module, true),
            None => match module.strip_suffix(".lora_B.weight") {
                Some(module) => (module, false),
                None => return Err(wrong("is neither `lora_A` nor `lora_B`")),
            },
        };
        if !is_a {
            // Its other half is looked for from `lora_A`; alone it would be lost.
            let other = format!("{PREFIX}{module}.lora_A.weight");
            if tensors.tensor(&other).is_err() {
                return Err(wrong("has no `lora_A`"));
            }
            continue;
        }
        let [n, k] = shape(module).ok_or_else(|| wrong("the model has no such projection"))?;
        let a = tensors.tensor(full).map_err(|error| wrong(&error.to_string()))?;
        let other = format!("{PREFIX}{module}.lora_B.weight");
        let b = tensors.tensor(&other).map_err(|_| wrong("has no `lora_B`"))?;
        let unfit = |name: &str, found: &[usize], wanted: &[usize]| {
            let reason = format!("{found:?} where the projection [{n}, {k}] has {wanted:?}");
            PeftError::tensor(file, name, reason)
        };
        let &[rank, columns] = a.shape() else { return Err(wrong("is not a matrix")) };
        if columns != k {
            return Err(unfit(full, a.shape(), &[rank, k]));
        }
        if b.shape() != [n, rank] {
            return Err(unfit(&other, b.shape(), &[n, rank]));
        }
        let (lora_a, lora_b) = (floats(file, full, &a)?, floats(file, &other, &b)?);
        found.insert(module.to_owned(), LowRank { rank, shape: [n, k], lora_a, lora_b });
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
