//! A teacher's config.json as its student's.

use lightglm_distill::student::StudentShape;
use lightglm_model::config::GlmConfig;
use serde_json::{Value, json};

/// The number of the first layer that has a window of attention.
const FIRST_WINDOW: &str = "max_window_layers";

/// Puts the sizes of `student` into `json`, which is of `teacher`, and leaves in lists of layers those of `layers`.
///
/// What the file says nothing of stays so where it is not changed, but for `head_dim`, which some files leave to follow
/// from sizes that are others now.
pub(super) fn resize(
    json: &mut Value,
    teacher: &GlmConfig,
    student: &StudentShape,
    layers: &[usize],
) {
    let sizes = [
        ("hidden_size", teacher.hidden_size, student.hidden_size),
        ("num_hidden_layers", teacher.num_hidden_layers, student.num_hidden_layers),
        ("num_attention_heads", teacher.num_attention_heads, student.num_attention_heads),
        ("num_key_value_heads", teacher.num_key_value_heads, student.num_key_value_heads),
        ("intermediate_size", teacher.intermediate_size, student.intermediate_size),
        ("vocab_size", teacher.vocab_size, student.vocab_size),
    ];
    let Some(root) = json.as_object_mut() else { return };
    let mut changed = false;
    for (key, before, after) in sizes {
        if before != after {
            root.insert(key.to_owned(), json!(after));
            changed = true;
        }
    }
    if changed {
        // Defaults follow from other sizes: as many key and value heads as heads, say.
        root.insert("num_key_value_heads".to_owned(), json!(student.num_key_value_heads));
        root.insert("head_dim".to_owned(), json!(student.head_dim));
    }
    let is_of_layers = |key: &str, list: &[Value]| {
        key.contains("layer") && list.len() == teacher.num_hidden_layers
    };
    for (key, value) in root.iter_mut() {
        if let Value::Array(list) = value
            && is_of_layers(key, list)
        {
            *list = layers.iter().filter_map(|&layer| list.get(layer).cloned()).collect();
        }
    }
    if let Some(first) = root.get(FIRST_WINDOW).and_then(Value::as_u64)
        && layers.len() < teacher.num_hidden_layers
    {
        let before = layers.iter().filter(|&&layer| (layer as u64) < first).count() as u64;
        let beyond = first.saturating_sub(teacher.num_hidden_layers as u64);
        root.insert(FIRST_WINDOW.to_owned(), json!(before + beyond));
    }
}
