//! `config.json` of ChatGLM's own code (`model_type: chatglm`): GLM-4 of 2024 before transformers had it, which
//! computes what `glm` does.
//!
//! Source: glm-4-9b-chat, `configuration_chatglm.py` (names and defaults) and `modeling_chatglm.py` (what they
//! mean).

use serde_json::Value;

use super::fields::Fields;
use super::glm_config::{parse_dtype, unsupported};
use super::{ConfigError, GlmConfig, ModelType, RopeParameters};

/// The rotary base that `rope_ratio` multiplies.
const ROPE_BASE: f64 = 10_000.0;

/// Rows of ChatGLM2's and ChatGLM3's tables.
const OLDER_VOCABULARY: usize = 65_024;

/// The classes that end in the head over the vocabulary.
const ARCHITECTURES: [&str; 2] = ["ChatGLMModel", "ChatGLMForConditionalGeneration"];

/// The switches that decide what is computed: each with what it is where a file leaves it out, and what the
/// decoder computes.
const SWITCHES: [(&str, bool, bool); 6] = [
    ("rmsnorm", true, true),
    ("post_layer_norm", true, true),
    ("apply_residual_connection_post_layernorm", false, false),
    ("add_bias_linear", false, false),
    ("original_rope", true, true),
    ("multi_query_attention", false, true),
];

/// The configuration in `root`, unchecked; refuses what the decoder would compute otherwise.
pub(super) fn parse(root: Fields<'_>) -> Result<GlmConfig, ConfigError> {
    refuse_other_models(root)?;
    let max_position_embeddings = root.size("seq_length", 2048)?;
    let vocab_size = root.size("padded_vocab_size", OLDER_VOCABULARY)?;
    Ok(GlmConfig {
        model_type: ModelType::Glm,
        hidden_size: root.size("hidden_size", 4096)?,
        num_hidden_layers: root.size("num_layers", 28)?,
        num_attention_heads: root.size("num_attention_heads", 32)?,
        num_key_value_heads: root.size("multi_query_group_num", 1)?,
        head_dim: root.size("kv_channels", 128)?,
        intermediate_size: root.size("ffn_hidden_size", 13_696)?,
        vocab_size,
        rms_norm_eps: root.number("layernorm_epsilon")?.unwrap_or(1e-5),
        attention_bias: root.boolean("add_qkv_bias")?.unwrap_or(false),
        // Its code has an output layer whatever the file says.
        tie_word_embeddings: false,
        max_position_embeddings,
        rope: rope(root, max_position_embeddings, vocab_size)?,
        eos_token_ids: root.token_ids("eos_token_id")?.unwrap_or_default(),
        pad_token_id: root.token_id_or_none("pad_token_id")?,
        bos_token_id: root.token_id_or_none("bos_token_id")?,
        dtype: parse_dtype(root)?,
    })
}

/// Half of each head rotated, by a base that the file names as a multiple.
fn rope(
    root: Fields<'_>,
    max_positions: usize,
    vocab_size: usize,
) -> Result<RopeParameters, ConfigError> {
    let ratio = root.number("rope_ratio")?.unwrap_or(1.0);
    if vocab_size == OLDER_VOCABULARY && ratio != 1.0 {
        let supported = "1 in a ChatGLM2 or ChatGLM3, whose codes divide positions by it or multiply \
                         the base";
        return Err(unsupported(root, "rope_ratio", ratio, supported));
    }
    let rope_theta = ROPE_BASE * ratio;
    if rope_theta <= 1.0 || rope_theta > f64::from(f32::MAX) {
        let reason = "10000 times it must be above 1 and fit into f32";
        return Err(ConfigError::impossible(root.file(), "rope_ratio", ratio, reason));
    }
    let given = RopeParameters::parse(root, max_positions, 0.5)?;
    let contradicts = |key: &str, value: f64, reason: String| {
        Err(ConfigError::impossible(root.file(), key, value, reason))
    };
    if ![ROPE_BASE, rope_theta].contains(&given.rope_theta) {
        let reason = format!("rope_ratio makes it {rope_theta}");
        return contradicts("rope_theta", given.rope_theta, reason);
    }
    if given.partial_rotary_factor != 0.5 {
        let reason = "ChatGLM rotates half of a head".to_owned();
        return contradicts("partial_rotary_factor", given.partial_rotary_factor, reason);
    }
    Ok(RopeParameters { rope_theta, ..given })
}

/// Refuses what would be another model in the same clothes.
fn refuse_other_models(root: Fields<'_>) -> Result<(), ConfigError> {
    let architectures = root.value("architectures").and_then(Value::as_array);
    let others = |name: &&Value| !name.as_str().is_some_and(|name| ARCHITECTURES.contains(&name));
    if let Some(other) = architectures.and_then(|names| names.iter().find(others)) {
        let supported = "ChatGLMModel, ChatGLMForConditionalGeneration";
        return Err(unsupported(root, "architectures", other, supported));
    }
    for (key, default, ours) in SWITCHES {
        if root.boolean(key)?.unwrap_or(default) != ours {
            let supported = if ours { "true" } else { "false" };
            return Err(unsupported(root, key, !ours, supported));
        }
    }
    for (key, supported) in [
        ("inner_hidden_size", "none: ChatGLM-6B of the first generation is another model"),
        ("position_encoding_2d", "none: ChatGLM-6B of the first generation is another model"),
        ("pre_seq_len", "null: trained prefixes (P-Tuning v2) are not read"),
        ("vision_config", "null: images are not read"),
    ] {
        if let Some(value) = root.value(key) {
            let value: String = value.to_string().chars().take(40).collect();
            return Err(unsupported(root, key, value, supported));
        }
    }
    if let Some(bits) = root.integer("quantization_bit")?.filter(|bits| *bits != 0) {
        let supported = "0: weights of f32, f16 or bf16, or a GGUF file";
        return Err(unsupported(root, "quantization_bit", bits, supported));
    }
    refuse_quantization(root)
}

/// Refuses weights of other programs' quantization, which are not read in this layout.
fn refuse_quantization(root: Fields<'_>) -> Result<(), ConfigError> {
    if let Some(quantization) =
        root.object("quantization_config")?.filter(|fields| !fields.is_empty())
    {
        let method = quantization.string("quant_method")?.unwrap_or("not named");
        let supported = "none in this layout (weights of f32, f16 or bf16, or a GGUF file)";
        return Err(unsupported(quantization, "quant_method", method, supported));
    }
    Ok(())
}
