//! What the name of a file's tensor says: which module it belongs to, and what of an adapter it is.

use crate::lora::{EMBEDDING, HEAD};

/// Which half of an adapter a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    A,
    B,
}

/// What a tensor is to its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'n> {
    /// Half of the adapter of a projection.
    Projection(&'n str, Half),
    /// Half of the adapter of the table of embeddings.
    Embedding(Half),
    /// A whole weight in place of the base's, by the decoder's name.
    Whole(&'static str),
}

/// What the tensor `full` is, whatever programs put around the model (`base_model.model.`, `_orig_mod.`,
/// `module.`); names of adapters (`.default`) are passed over.
///
/// # Errors
/// What it is that is not supported.
pub(super) fn part(full: &str) -> Result<Part<'_>, &'static str> {
    let mut name = full;
    while let Some(rest) =
        ["base_model.model.", "_orig_mod.", "module."].iter().find_map(|p| name.strip_prefix(p))
    {
        name = rest;
    }
    for (mark, half) in [(".lora_embedding_A", Half::A), (".lora_embedding_B", Half::B)] {
        if let Some(module) = before(name, mark) {
            let is_table = whole(module) == Some(EMBEDDING);
            return match is_table {
                true => Ok(Part::Embedding(half)),
                false => Err("is of an adapter of an embedding that the model does not have"),
            };
        }
    }
    let Some(name) = name.strip_suffix(".weight") else { return Err(other_kind(full)) };
    for (mark, half) in [(".lora_A", Half::A), (".lora_B", Half::B)] {
        if let Some(module) = before(name, mark) {
            return Ok(Part::Projection(module, half));
        }
    }
    // `base_layer`: what PEFT calls the saved weight of a module that has an adapter, too.
    let module = name.strip_suffix(".base_layer").or_else(|| before(name, ".modules_to_save"));
    whole(module.unwrap_or(name)).map(Part::Whole).ok_or_else(|| other_kind(full))
}

/// What stands before `mark` at the end of `name`, or before it and the name of an adapter.
fn before<'n>(name: &'n str, mark: &str) -> Option<&'n str> {
    let (module, adapter) = name.rsplit_once(mark)?;
    let is_adapter = adapter.is_empty() || adapter.starts_with('.');
    (is_adapter && !adapter[1.min(adapter.len())..].contains('.')).then_some(module)
}

/// The decoder's name of a module that may be saved whole.
fn whole(module: &str) -> Option<&'static str> {
    match module {
        "lm_head" | "transformer.output_layer" => Some(HEAD),
        "model.embed_tokens" | "transformer.embedding.word_embeddings" => Some(EMBEDDING),
        _ => None,
    }
}

/// What a tensor is that is no part of an adapter of ours.
fn other_kind(full: &str) -> &'static str {
    match full {
        _ if full.contains("lora_magnitude_vector") => {
            "is of a DoRA adapter, which is not supported"
        }
        _ if full.contains("trainable_tokens") => "is of trained tokens, which are not supported",
        _ if full.ends_with(".bias") => "is a trained bias, which is not supported",
        _ if full.ends_with(".weight") && !full.contains(".lora_") => {
            "is a whole trained weight: only those of `lm_head` and `embed_tokens` are supported"
        }
        _ => "is neither `lora_A` nor `lora_B`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        let projection = |half| Ok(Part::Projection("model.layers.0.self_attn.q_proj", half));
        let q = "model.layers.0.self_attn.q_proj";
        assert_eq!(part(&format!("base_model.model.{q}.lora_A.weight")), projection(Half::A));
        assert_eq!(part(&format!("_orig_mod.{q}.lora_B.default.weight")), projection(Half::B));
        for name in ["lm_head", "transformer.output_layer"] {
            for end in ["", ".modules_to_save", ".modules_to_save.default", ".base_layer"] {
                let full = format!("base_model.model.{name}{end}.weight");
                assert_eq!(part(&full), Ok(Part::Whole(HEAD)), "{full}");
            }
        }
        let table = "base_model.model.model.embed_tokens";
        assert_eq!(part(&format!("{table}.weight")), Ok(Part::Whole(EMBEDDING)));
        assert_eq!(part(&format!("{table}.lora_embedding_A")), Ok(Part::Embedding(Half::A)));
        assert_eq!(
            part(&format!("{table}.lora_embedding_B.default")),
            Ok(Part::Embedding(Half::B))
        );
        let refused = [
            ("base_model.model.model.norm.weight", "a whole trained weight"),
            ("base_model.model.score.modules_to_save.weight", "a whole trained weight"),
            ("base_model.model.lm_head.original_module.weight", "a whole trained weight"),
            ("base_model.model.model.layers.0.self_attn.q_proj.bias", "a trained bias"),
            ("base_model.model.model.visual.lora_embedding_A", "does not have"),
            ("q_proj.lora_C.weight", "neither"),
        ];
        for (name, reason) in refused {
            let error = part(name).unwrap_err();
            assert!(error.contains(reason), "{name}: {error}");
        }
    }
}
