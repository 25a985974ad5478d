//! `ChatGlmCheckpoint`: safetensors under the names of ChatGLM's own code as a weight source of the decoder.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use lightglm_core::{StoredTensor, TensorView, WeightError, WeightSource};

use super::safetensors::SafetensorsCheckpoint;
use crate::config::GlmConfig;

const LAYERS: &str = "transformer.encoder.layers.";

/// A folder whose `config.json` says `chatglm`, under the names of the GLM decoder.
///
/// Its fused projection, `query_key_value`, is q's rows above k's and v's; the others are only called
/// otherwise. All tensors are views of the mapping.
#[derive(Clone, Debug)]
pub struct ChatGlmCheckpoint {
    file: SafetensorsCheckpoint,
    /// By the decoder's names.
    origins: BTreeMap<String, Origin>,
}

/// A tensor of the file, or some of its rows.
#[derive(Clone, Debug)]
struct Origin {
    name: String,
    rows: Option<Range<usize>>,
}

impl ChatGlmCheckpoint {
    /// The tensors of `file` for a model of `config`. `rotary_pos_emb.inv_freq`, which follows from the
    /// configuration, is passed over.
    ///
    /// # Errors
    /// [`WeightError::Missing`], [`WeightError::ShapeMismatch`] under the file's own names, for what the
    /// configuration asks for.
    pub fn new(file: SafetensorsCheckpoint, config: &GlmConfig) -> Result<Self, WeightError> {
        let mut origins = BTreeMap::new();
        for (name, shape) in config.tensor_shapes() {
            // All of a `glm` have one.
            let Some(origin) = origin(&name, config) else { continue };
            let missing =
                || WeightError::Missing { file: file.path().to_owned(), name: origin.name.clone() };
            let actual = file.shape(&origin.name).ok_or_else(missing)?;
            let mut expected = shape;
            if origin.rows.is_some() {
                expected[0] = fused_rows(config);
            }
            if actual != expected {
                let (file, name) = (file.path().to_owned(), origin.name);
                return Err(WeightError::ShapeMismatch { file, name, expected, actual });
            }
            origins.insert(name, origin);
        }
        let known: HashSet<String> = origins.values().map(|origin| origin.name.clone()).collect();
        for name in file.names() {
            // What the decoder has no place for keeps its name, and is found to be unexpected.
            if !known.contains(&name) && !name.ends_with("rotary_pos_emb.inv_freq") {
                origins.insert(name.clone(), Origin { name, rows: None });
            }
        }
        Ok(Self { file, origins })
    }

    /// The file with its own names.
    pub fn file(&self) -> &SafetensorsCheckpoint {
        &self.file
    }

    fn origin(&self, name: &str) -> Result<&Origin, WeightError> {
        self.origins.get(name).ok_or_else(|| WeightError::Missing {
            file: self.file.path().to_owned(),
            name: name.to_owned(),
        })
    }
}

/// Rows of q, k and v together.
fn fused_rows(config: &GlmConfig) -> usize {
    (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim
}

/// Where the decoder's tensor `name` lies.
///
/// Source: glm-4-9b-chat, `modeling_chatglm.py`, `SelfAttention.forward` (the order of the fused rows).
fn origin(name: &str, config: &GlmConfig) -> Option<Origin> {
    let whole = |name: String| Some(Origin { name, rows: None });
    match name {
        "model.embed_tokens.weight" => {
            return whole("transformer.embedding.word_embeddings.weight".to_owned());
        }
        "model.norm.weight" => {
            return whole("transformer.encoder.final_layernorm.weight".to_owned());
        }
        "lm_head.weight" => return whole("transformer.output_layer.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let theirs = |part: &str| format!("{LAYERS}{layer}.{part}");
    let (query, key_value) = (
        config.num_attention_heads * config.head_dim,
        config.num_key_value_heads * config.head_dim,
    );
    let (projection, kind) = part.rsplit_once('.')?;
    let (first, rows) = match projection {
        "self_attn.q_proj" => (0, query),
        "self_attn.k_proj" => (query, key_value),
        "self_attn.v_proj" => (query + key_value, key_value),
        "self_attn.o_proj" => return whole(theirs(&format!("self_attention.dense.{kind}"))),
        "mlp.gate_up_proj" => return whole(theirs(&format!("mlp.dense_h_to_4h.{kind}"))),
        "mlp.down_proj" => return whole(theirs(&format!("mlp.dense_4h_to_h.{kind}"))),
        "input_layernorm" | "post_attention_layernorm" => return whole(theirs(part)),
        _ => return None,
    };
    let name = theirs(&format!("self_attention.query_key_value.{kind}"));
    Some(Origin { name, rows: Some(first..first + rows) })
}

impl WeightSource for ChatGlmCheckpoint {
    fn names(&self) -> Vec<String> {
        self.origins.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let origin = self.origins.get(name)?;
        let mut shape = self.file.shape(&origin.name)?;
        if let Some(rows) = &origin.rows {
            *shape.first_mut()? = rows.len();
        }
        Some(shape)
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let origin = self.origin(name)?;
        let mut view = self.file.tensor(&origin.name)?;
        if let Some(rows) = &origin.rows {
            let row_bytes = view.bytes.len() / view.shape[0];
            view.bytes = view.bytes.slice(rows.start * row_bytes..rows.end * row_bytes);
            view.shape[0] = rows.len();
        }
        Ok(view)
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        let origin = self.origin(name)?;
        let mut stored = self.file.stored(&origin.name)?;
        if let Some(rows) = &origin.rows {
            let all = stored.shape[0];
            for bytes in &mut stored.parts {
                let row_bytes = bytes.len() / all;
                *bytes = bytes.slice(rows.start * row_bytes..rows.end * row_bytes);
            }
            stored.shape[0] = rows.len();
        }
        Ok(stored)
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.file.metadata(key)
    }
}
