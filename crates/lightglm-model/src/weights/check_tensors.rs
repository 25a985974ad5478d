//! A checkpoint's tensors against what the configuration asks for.

use std::collections::HashSet;
use std::path::Path;

use lightglm_core::{WeightError, WeightSource};

use crate::config::GlmConfig;

/// Checks that `source` has every tensor that `config` asks for, in its shape, and no other. `file`
/// is what errors call the checkpoint.
///
/// Buffers that older checkpoints carry and no model reads (`*.rotary_emb.inv_freq`,
/// `*.position_ids`) are passed over, and so are an `lm_head.weight` beside tied embeddings, which
/// some writers store twice, and a bias of zeros, which some quantizers give every layer.
///
/// # Errors
/// [`WeightError::Missing`], or [`WeightError::Prefixed`] where it has another name;
/// [`WeightError::ShapeMismatch`], [`WeightError::Unexpected`], in this order.
pub fn check_tensors(
    source: &dyn WeightSource,
    config: &GlmConfig,
    file: &Path,
) -> Result<(), WeightError> {
    let expected = config.tensor_shapes();
    for (name, shape) in &expected {
        let Some(actual) = source.shape(name) else {
            return Err(WeightError::missing(file, name, source.names()));
        };
        if actual != *shape {
            return Err(WeightError::ShapeMismatch {
                file: file.into(),
                name: name.clone(),
                expected: shape.clone(),
                actual,
            });
        }
    }
    let expected: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let tied = config.tie_word_embeddings;
    let names: Vec<String> = source
        .names()
        .into_iter()
        .filter(|name| !expected.contains(name.as_str()) && !is_harmless(name, tied))
        .filter(|name| !(name.ends_with(".bias") && is_zero(source, name)))
        .collect();
    if names.is_empty() {
        Ok(())
    } else {
        Err(WeightError::Unexpected { file: file.into(), names })
    }
}

fn is_harmless(name: &str, tied: bool) -> bool {
    name.ends_with("rotary_emb.inv_freq")
        || name.ends_with("position_ids")
        || (tied && name == "lm_head.weight")
}

/// Whether all numbers are +0.
fn is_zero(source: &dyn WeightSource, name: &str) -> bool {
    source.tensor(name).is_ok_and(|view| view.bytes.iter().all(|byte| *byte == 0))
}
