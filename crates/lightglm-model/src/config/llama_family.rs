//! `config.json` of the Llama family: models that compute what `glm` does with whole heads rotated.
//!
//! Source: transformers 5.24.0, `configuration_llama.py`, `configuration_mistral.py`,
//! `configuration_qwen2.py`, `configuration_qwen3.py` (names and defaults), `modeling_qwen2.py` (which
//! projections have a bias).

use serde_json::Value;

use super::fields::Fields;
use super::glm_config::{parse_dtype, split_heads, unsupported};
use super::{ConfigError, GlmConfig, ModelType, RopeParameters};

/// A model type of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LlamaFamily {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    /// The `llama` inside of a `glmasr`, whose files leave other things out.
    GlmAsr,
}

/// What a file means that leaves the key out.
struct Defaults {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    rms_norm_eps: f64,
    vocab_size: usize,
    intermediate_size: usize,
    /// As many as there are query heads, where there is none.
    num_key_value_heads: Option<usize>,
    /// The hidden size divided by the heads, where there is none.
    head_dim: Option<usize>,
    max_position_embeddings: usize,
}

impl LlamaFamily {
    fn defaults(self) -> Defaults {
        let (vocab_size, intermediate_size, num_key_value_heads, max_position_embeddings) =
            match self {
                Self::Llama => (32_000, 11_008, None, 2048),
                Self::Mistral => (32_000, 14_336, Some(8), 131_072),
                Self::Qwen2 | Self::Qwen3 => (151_936, 22_016, Some(32), 32_768),
                Self::GlmAsr => (59_264, 6144, Some(4), 8192),
            };
        let head_dim = (self == Self::Qwen3).then_some(128);
        let (hidden_size, num_hidden_layers, num_attention_heads, rms_norm_eps) = match self {
            Self::GlmAsr => (2048, 28, 16, 1e-5),
            _ => (4096, 32, 32, 1e-6),
        };
        Defaults {
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            rms_norm_eps,
            vocab_size,
            intermediate_size,
            num_key_value_heads,
            head_dim,
            max_position_embeddings,
        }
    }

    /// The configuration in `root`, unchecked; refuses what the decoder would compute otherwise.
    pub(super) fn parse(self, root: Fields<'_>) -> Result<GlmConfig, ConfigError> {
        refuse_other_models(root)?;
        let defaults = self.defaults();
        let hidden_size = root.size("hidden_size", defaults.hidden_size)?;
        let heads = root.size("num_attention_heads", defaults.num_attention_heads)?;
        let key_value_heads = "num_key_value_heads";
        let num_key_value_heads = match root.is_null(key_value_heads) {
            true => heads,
            false => root.size(key_value_heads, defaults.num_key_value_heads.unwrap_or(heads))?,
        };
        let head_dim = match (root.value("head_dim"), defaults.head_dim) {
            (Some(_), _) => root.size("head_dim", 0)?,
            (None, Some(head_dim)) if !root.is_null("head_dim") => head_dim,
            (None, _) => split_heads(root, hidden_size, heads)?,
        };
        let max_position_embeddings =
            root.size("max_position_embeddings", defaults.max_position_embeddings)?;
        let config = GlmConfig {
            model_type: match self {
                Self::Llama | Self::Mistral | Self::Qwen2 | Self::GlmAsr => ModelType::Glm,
                Self::Qwen3 => ModelType::GlmQkNorm,
            },
            hidden_size,
            num_hidden_layers: root.size("num_hidden_layers", defaults.num_hidden_layers)?,
            num_attention_heads: heads,
            num_key_value_heads,
            head_dim,
            intermediate_size: root.size("intermediate_size", defaults.intermediate_size)?,
            vocab_size: root.size("vocab_size", defaults.vocab_size)?,
            rms_norm_eps: root.number("rms_norm_eps")?.unwrap_or(defaults.rms_norm_eps),
            attention_bias: match self {
                Self::Llama | Self::Qwen3 | Self::GlmAsr => {
                    root.boolean("attention_bias")?.unwrap_or(false)
                }
                Self::Mistral => false,
                Self::Qwen2 => true,
            },
            tie_word_embeddings: root.boolean("tie_word_embeddings")?.unwrap_or(false),
            max_position_embeddings,
            rope: RopeParameters::parse(root, max_position_embeddings, 1.0)?,
            // Those that transformers has for a file without (1 and 2) are ordinary tokens of most
            // vocabularies but Llama 2's.
            eos_token_ids: root.token_ids("eos_token_id")?.unwrap_or_default(),
            pad_token_id: root.token_id_or_none("pad_token_id")?,
            bos_token_id: root.token_id_or_none("bos_token_id")?,
            dtype: parse_dtype(root)?,
        };
        let partial = config.rope.partial_rotary_factor;
        if partial != 1.0 {
            return Err(unsupported(root, "partial_rotary_factor", partial, "1"));
        }
        self.check_window(root, &config)?;
        Ok(config)
    }

    /// Refuses a window of attention that a context can be longer than.
    fn check_window(self, root: Fields<'_>, config: &GlmConfig) -> Result<(), ConfigError> {
        const WINDOW: &str = "sliding_window";
        let window = || match root.is_null(WINDOW) {
            true => Ok(None),
            false => root.size(WINDOW, 4096).map(Some),
        };
        let window = match self {
            Self::Llama | Self::GlmAsr => None,
            Self::Mistral => window()?,
            Self::Qwen2 | Self::Qwen3 if root.boolean("use_sliding_window")? == Some(true) => {
                // The layers from this one on have the window.
                let first = root.size("max_window_layers", 28)?;
                let listed = root.value("layer_types").is_some();
                window()?.filter(|_| listed || first < config.num_hidden_layers)
            }
            Self::Qwen2 | Self::Qwen3 => None,
        };
        let context = config.context_length();
        match window.filter(|window| *window < context) {
            Some(window) => {
                let supported = "null, or no less than the longest context";
                Err(unsupported(root, WINDOW, window, supported))
            }
            None => check_layer_types(root),
        }
    }
}

/// Layers whose window no context is longer than are layers of full attention.
fn check_layer_types(root: Fields<'_>) -> Result<(), ConfigError> {
    let Some(types) = root.value("layer_types").and_then(Value::as_array) else { return Ok(()) };
    let known = ["full_attention", "sliding_attention"];
    match types.iter().find(|kind| !kind.as_str().is_some_and(|kind| known.contains(&kind))) {
        Some(other) => Err(unsupported(root, "layer_types", other, "full_attention")),
        None => Ok(()),
    }
}

/// Refuses what would be another model in the same clothes.
fn refuse_other_models(root: Fields<'_>) -> Result<(), ConfigError> {
    for key in ["num_local_experts", "num_experts", "n_routed_experts"] {
        if let Some(count) = root.integer(key)?.filter(|count| *count != 0) {
            return Err(unsupported(root, key, count, "0: no mixture of experts"));
        }
    }
    for key in ["mlp_bias", "use_mrope"] {
        if root.value(key).is_some() && root.boolean(key)? == Some(true) {
            return Err(unsupported(root, key, true, "false"));
        }
    }
    Ok(())
}
