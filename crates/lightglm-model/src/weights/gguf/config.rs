//! A GGUF file's metadata as a configuration.
//!
//! Source: llama.cpp's `gguf-py/gguf/constants.py` (keys) and `src/llama-model.cpp` (defaults).

use lightglm_core::ProjectionLayout;

use super::file::GgufFile;
use super::names::{Architecture, QkvRows};
use super::value::GgufValue;
use crate::config::{ConfigError, GlmConfig, ModelType, RopeParameters, RopeScaling};

/// Metadata of one architecture, with errors that name file and key.
pub(super) struct Keys<'a> {
    file: &'a GgufFile,
    name: &'a str,
    pub(super) architecture: Architecture,
}

impl<'a> Keys<'a> {
    pub(super) fn new(file: &'a GgufFile) -> Result<Self, ConfigError> {
        let key = "general.architecture";
        let Some(value) = file.get(key) else {
            return Err(ConfigError::Missing { file: file.path().into(), key: key.into() });
        };
        let Some(name) = value.as_str() else {
            return Err(wrong_type(file, key, "a string", value));
        };
        match Architecture::from_name(name) {
            Some(architecture) => Ok(Self { file, name, architecture }),
            None => Err(unsupported(file, key, name, Architecture::SUPPORTED)),
        }
    }

    /// `key` of the architecture as the file spells it.
    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let path = self.path(key);
        let Some(value) = self.file.get(&path) else { return Ok(None) };
        match value.as_u64().and_then(|value| usize::try_from(value).ok()) {
            Some(size) => Ok(Some(size)),
            None => Err(wrong_type(self.file, &path, "a non-negative integer", value)),
        }
    }

    fn required(&self, key: &str) -> Result<usize, ConfigError> {
        self.size(key)?.ok_or_else(|| ConfigError::Missing {
            file: self.file.path().into(),
            key: self.path(key),
        })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let path = self.path(key);
        let Some(value) = self.file.get(&path) else { return Ok(None) };
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong_type(self.file, &path, "a finite number", value)),
        }
    }

    fn impossible(&self, key: &str, value: impl ToString, reason: &str) -> ConfigError {
        ConfigError::impossible(self.file.path(), self.path(key), value, reason)
    }

    /// Query heads, key and value heads, elements of a head.
    fn heads(&self) -> Result<(usize, usize, usize), ConfigError> {
        let heads = self.required("attention.head_count")?;
        let kv_heads = self.size("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = match self.size("attention.key_length")? {
            Some(head_dim) => head_dim,
            None => {
                let hidden = self.required("embedding_length")?;
                if hidden.checked_rem(heads) != Some(0) {
                    let reason = format!("must divide embedding_length, {hidden}");
                    return Err(self.impossible("attention.head_count", heads, &reason));
                }
                hidden / heads
            }
        };
        if let Some(value_dim) = self.size("attention.value_length")?
            && value_dim != head_dim
        {
            let reason = "keys and values must be of one length";
            return Err(self.impossible("attention.value_length", value_dim, reason));
        }
        Ok((heads, kv_heads, head_dim))
    }

    /// Rows of q, k and v, for files that fuse them; `None` where the metadata does not say.
    pub(super) fn qkv_rows(&self) -> Option<QkvRows> {
        let (heads, kv_heads, head_dim) = self.heads().ok()?;
        let rows = QkvRows {
            query: heads.checked_mul(head_dim)?,
            key_value: kv_heads.checked_mul(head_dim)?,
        };
        rows.key_value.checked_mul(2)?.checked_add(rows.query)?;
        Some(rows)
    }

    /// The order of the file's rows: llama.cpp rotates halves of a Qwen's heads, and has the rows of all
    /// others changed when a file is made.
    pub(super) fn layout(&self) -> ProjectionLayout {
        match (self.architecture, self.heads()) {
            (Architecture::Qwen2 | Architecture::Qwen3, Ok((_, _, head_dim)))
                if head_dim > 0 && head_dim.is_multiple_of(2) =>
            {
                ProjectionLayout::Llama { head_dim }
            }
            // A file whose heads cannot be told has no configuration.
            _ => ProjectionLayout::Glm,
        }
    }

    pub(super) fn config(&self) -> Result<GlmConfig, ConfigError> {
        self.refuse_other_models()?;
        let (heads, kv_heads, head_dim) = self.heads()?;
        let max_position_embeddings = self.required("context_length")?;
        let tensors = self.file.tensors();
        // Rows of the embedding: some files leave vocab_size out, some pad the table.
        let vocab_size = match tensors.get("token_embd.weight").and_then(|t| t.shape.first()) {
            Some(rows) => *rows,
            None => self.required("vocab_size")?,
        };
        let bias = ["blk.0.attn_q.bias", "blk.0.attn_qkv.bias"];
        let eps = "attention.layer_norm_rms_epsilon";
        let config = GlmConfig {
            model_type: match self.architecture {
                Architecture::Glm4 => ModelType::Glm4,
                Architecture::Llama | Architecture::Qwen2 | Architecture::ChatGlm => ModelType::Glm,
                Architecture::Qwen3 => ModelType::GlmQkNorm,
            },
            hidden_size: self.required("embedding_length")?,
            num_hidden_layers: self.required("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            intermediate_size: self.required("feed_forward_length")?,
            vocab_size,
            rms_norm_eps: self.number(eps)?.ok_or_else(|| ConfigError::Missing {
                file: self.file.path().into(),
                key: self.path(eps),
            })?,
            attention_bias: bias.iter().any(|name| tensors.contains_key(*name)),
            // There is no key for it. All tensors of the model are here: a part that is missing is an error.
            tie_word_embeddings: !tensors.contains_key("output.weight"),
            max_position_embeddings,
            rope: self.rope(head_dim, max_position_embeddings)?,
            eos_token_ids: eos_token_ids(self.file)?,
            pad_token_id: token_id(self.file, "tokenizer.ggml.padding_token_id")?,
            bos_token_id: token_id(self.file, "tokenizer.ggml.bos_token_id")?,
            dtype: None,
        };
        config.check_in(self.file.path())?;
        Ok(config)
    }

    /// Refuses what would be another model in the same clothes.
    fn refuse_other_models(&self) -> Result<(), ConfigError> {
        for key in ["expert_count", "nextn_predict_layers"] {
            if let Some(count) = self.size(key)?
                && count != 0
            {
                return Err(unsupported(self.file, &self.path(key), count, "0"));
            }
        }
        // Rows of q and k are permuted for multimodal rotary embedding.
        let sections = self.path("rope.dimension_sections");
        if self.file.get(&sections).is_some() {
            return Err(unsupported(self.file, &sections, "an array", "no such key"));
        }
        Ok(())
    }

    fn rope(&self, head_dim: usize, context: usize) -> Result<RopeParameters, ConfigError> {
        let rotary_dim = self.size("rope.dimension_count")?.unwrap_or(head_dim);
        if rotary_dim == 0 || rotary_dim > head_dim || rotary_dim % 2 != 0 {
            let reason = format!("must be even, not zero and at most {head_dim}");
            return Err(self.impossible("rope.dimension_count", rotary_dim, &reason));
        }
        if rotary_dim != head_dim && self.layout() != ProjectionLayout::Glm {
            let reason = format!("heads of {head_dim} are rotated as a whole in this architecture");
            return Err(self.impossible("rope.dimension_count", rotary_dim, &reason));
        }
        let rope_theta = self.number("rope.freq_base")?.unwrap_or(10_000.0);
        if rope_theta <= 1.0 {
            return Err(self.impossible("rope.freq_base", rope_theta, "must be above 1"));
        }
        Ok(RopeParameters {
            rope_theta,
            partial_rotary_factor: rotary_dim as f64 / head_dim as f64,
            scaling: match self.divisors(rotary_dim)? {
                Some(divisors) => RopeScaling::Divisors(divisors),
                None => self.rope_scaling(context)?,
            },
            mrope_section: None,
        })
    }

    /// What frequencies are divided by, where the file says it one by one, as for Llama 3.1.
    fn divisors(&self, rotary_dim: usize) -> Result<Option<Vec<f32>>, ConfigError> {
        const NAME: &str = "rope_freqs.weight";
        let (Some(tensor), Some(bytes)) =
            (self.file.tensors().get(NAME), self.file.tensor_bytes(NAME))
        else {
            return Ok(None);
        };
        let (floats, rest) = bytes.as_chunks::<4>();
        let divisors: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let usable = |divisor: &f32| divisor.is_finite() && *divisor > 0.0;
        let fits =
            tensor.ggml_type.name() == "F32" && rest.is_empty() && divisors.len() == rotary_dim / 2;
        if fits && divisors.iter().all(usable) {
            return Ok(Some(divisors));
        }
        let supported = "rope.dimension_count / 2 positive numbers in F32";
        Err(unsupported(self.file, NAME, format!("{:?}", tensor.shape), supported))
    }

    fn rope_scaling(&self, context: usize) -> Result<RopeScaling, ConfigError> {
        let type_key = self.path("rope.scaling.type");
        let kind = match self.file.get(&type_key) {
            None => None,
            Some(value) => Some(
                value
                    .as_str()
                    .ok_or_else(|| wrong_type(self.file, &type_key, "a string", value))?,
            ),
        };
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(("rope.scaling.factor", factor)),
            None => self.number("rope.scale_linear")?.map(|factor| ("rope.scale_linear", factor)),
        };
        // A factor of zero means none, as in llama.cpp.
        let Some((key, factor)) = factor.filter(|(_, factor)| *factor != 0.0) else {
            return Ok(RopeScaling::None);
        };
        if factor < 1.0 {
            return Err(self.impossible(key, factor, "must be at least 1"));
        }
        match kind.unwrap_or("linear") {
            "none" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor }),
            "yarn" => self.yarn(factor, context),
            other => Err(unsupported(self.file, &type_key, other, "none, linear, yarn")),
        }
    }

    fn yarn(&self, factor: f64, context: usize) -> Result<RopeScaling, ConfigError> {
        let original = self.size("rope.scaling.original_context_length")?.unwrap_or(context);
        if original == 0 {
            let key = "rope.scaling.original_context_length";
            return Err(self.impossible(key, original, "must be positive"));
        }
        let positive = |key: &str, default: f64| match self.number(key)?.unwrap_or(default) {
            value if value > 0.0 => Ok(value),
            value => Err(self.impossible(key, value, "must be positive")),
        };
        // llama.cpp multiplies its factor with the one that follows from the stretch.
        let given = match self.number("rope.scaling.attn_factor")? {
            Some(given) => Some(given),
            None => self.number("rope.scaling.yarn_attn_factor")?,
        };
        Ok(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            beta_fast: positive("rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: positive("rope.scaling.yarn_beta_slow", 1.0)?,
            attention_factor: given.map(|given| given * (0.1 * factor.ln() + 1.0)),
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        })
    }
}

/// The token id under `key`; -1 means none, as in llama.cpp.
pub(super) fn token_id(file: &GgufFile, key: &str) -> Result<Option<u32>, ConfigError> {
    match file.get(key) {
        None | Some(GgufValue::I32(-1) | GgufValue::U32(u32::MAX)) => Ok(None),
        Some(value) => match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(Some(id)),
            None => Err(wrong_type(file, key, "a token id", value)),
        },
    }
}

/// The ids that end a text, a turn and a message, each once.
pub(super) fn eos_token_ids(file: &GgufFile) -> Result<Vec<u32>, ConfigError> {
    let mut ids = Vec::new();
    for name in ["eos", "eot", "eom"] {
        if let Some(id) = token_id(file, &format!("tokenizer.ggml.{name}_token_id"))?
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn wrong_type(
    file: &GgufFile,
    key: &str,
    expected: &'static str,
    actual: &GgufValue,
) -> ConfigError {
    let actual = match actual {
        GgufValue::Array(array) => format!("an array of {}", array.len()),
        GgufValue::String(text) => {
            format!("the string {:?}", text.chars().take(40).collect::<String>())
        }
        other => format!("{other:?}"),
    };
    ConfigError::WrongType { file: file.path().into(), key: key.into(), expected, actual }
}

fn unsupported(
    file: &GgufFile,
    key: &str,
    value: impl ToString,
    supported: &'static str,
) -> ConfigError {
    let (file, value) = (file.path().into(), value.to_string());
    ConfigError::Unsupported { file, key: key.into(), value, supported }
}
