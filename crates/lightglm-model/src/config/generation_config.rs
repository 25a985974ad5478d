//! `GenerationConfig`: the sampling defaults that come with a checkpoint.

use std::path::Path;

use lightglm_core::python_json;
use serde_json::Value;

use super::ConfigError;
use super::fields::Fields;

/// The keys of `generation_config.json` that say how to sample. What the file leaves out is `None`:
/// defaults belong to the sampler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end a generation (the file has a number or a list).
    pub eos_token_ids: Vec<u32>,
    /// The token that fills shorter rows of a batch.
    pub pad_token_id: Option<u32>,
    /// Whether to sample; false is greedy.
    pub do_sample: Option<bool>,
    /// Logits are divided by it, not negative.
    pub temperature: Option<f64>,
    /// Only the `top_k` likeliest tokens; 0 is off.
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together reach this probability, in (0, 1].
    pub top_p: Option<f64>,
    /// Only tokens at least this fraction as likely as the likeliest, in [0, 1].
    pub min_p: Option<f64>,
    /// Divides the logits of tokens seen before, above 0.
    pub repetition_penalty: Option<f64>,
    /// Most tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// No end before so many tokens.
    pub min_new_tokens: Option<usize>,
    /// Texts that end a generation (the file has one or a list).
    pub stop_strings: Vec<String>,
    /// Tokens that are never chosen: `suppress_tokens`, and those of `bad_words_ids` that stand alone.
    pub suppress_tokens: Vec<u32>,
    /// Keys that would change what is generated and are not used here: beams, other truncations, bans of
    /// several tokens in a row, and whatever transformers does not know either.
    pub unused: Vec<String>,
}

/// Keys that are used.
const USED: [&str; 13] = [
    "bad_words_ids",
    "do_sample",
    "eos_token_id",
    "max_new_tokens",
    "min_new_tokens",
    "min_p",
    "pad_token_id",
    "repetition_penalty",
    "stop_strings",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
];

/// Keys that do not change what is generated: names of tokens that a decoder does not need, versions, what
/// else `generate` returns and where it keeps its cache.
const WITHOUT_EFFECT: [&str; 15] = [
    "_from_model_config",
    "_commit_hash",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "decoder_start_token_id",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "return_dict_in_generate",
    "transformers_version",
    "use_cache",
    "token_healing",
];

/// What turns the others off.
///
/// Source: transformers' `generation/configuration_utils.py`.
fn is_off(key: &str, value: &Value) -> bool {
    let number = value.as_f64();
    match key {
        _ if value.is_null() => true,
        "num_beams"
        | "num_return_sequences"
        | "typical_p"
        | "encoder_repetition_penalty"
        | "guidance_scale"
        | "length_penalty"
        | "top_h"
        | "num_beam_groups" => number == Some(1.0),
        // transformers' default, which `max_new_tokens` stands above.
        "max_length" => number == Some(20.0),
        _ => match value {
            Value::Bool(false) => true,
            Value::Number(_) => number == Some(0.0),
            Value::Array(items) => items.is_empty(),
            _ => false,
        },
    }
}

impl GenerationConfig {
    /// The keys of `generation_config.json` that are used, in alphabetical order.
    pub fn used_keys() -> &'static [&'static str] {
        &USED
    }

    /// Reads a `generation_config.json`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file and the key.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| ConfigError::Io { file: path.into(), source })?;
        Self::parse(&bytes, path)
    }

    /// [`GenerationConfig::from_file`] for the file's contents.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Self::parse(json.as_ref(), Path::new("generation_config.json"))
    }

    fn parse(bytes: &[u8], file: &Path) -> Result<Self, ConfigError> {
        let value =
            python_json(bytes).map_err(|source| ConfigError::Json { file: file.into(), source })?;
        Self::from_settings(value, file)
    }

    /// [`GenerationConfig::from_file`] for an object of the same keys; `file` is what errors name.
    pub(crate) fn from_settings(value: Value, file: &Path) -> Result<Self, ConfigError> {
        let root = Fields::root(file, &value)?;
        let (mut suppress_tokens, bans_sequences) = bad_words(root)?;
        suppress_tokens.extend(root.token_ids("suppress_tokens")?.unwrap_or_default());
        let settings = value.as_object().into_iter().flatten();
        let unused = settings.filter(|(key, value)| match key.as_str() {
            "bad_words_ids" => bans_sequences,
            key => !USED.contains(&key) && !WITHOUT_EFFECT.contains(&key) && !is_off(key, value),
        });
        let unused = unused.map(|(key, _)| key.clone()).collect();
        let tokens = |key| {
            let number = root.integer(key)?;
            Ok::<_, ConfigError>(number.map(|n| n.min(usize::MAX as u64) as usize))
        };
        let do_sample = match root.is_null("do_sample") {
            true => None,
            false => root.boolean("do_sample")?,
        };
        Ok(Self {
            eos_token_ids: root.token_ids("eos_token_id")?.unwrap_or_default(),
            pad_token_id: root.token_id_or_none("pad_token_id")?,
            do_sample,
            temperature: within(root, "temperature", "must not be negative", |v| v >= 0.0)?,
            // vLLM writes -1 where all tokens are possible, which is 0 in transformers.
            top_k: match root.value("top_k").and_then(Value::as_i64) {
                Some(-1) => Some(0),
                _ => root.token_id("top_k")?,
            },
            // Of 0 the most likely token is left, as in transformers.
            top_p: within(root, "top_p", "must be from 0 to 1", |v| (0.0..=1.0).contains(&v))?
                .map(|v| v.max(f64::from(f32::MIN_POSITIVE))),
            min_p: within(root, "min_p", "must be from 0 to 1", |v| (0.0..=1.0).contains(&v))?,
            repetition_penalty: within(root, "repetition_penalty", "must be above 0", |v| v > 0.0)?,
            max_new_tokens: tokens("max_new_tokens")?,
            min_new_tokens: tokens("min_new_tokens")?,
            stop_strings: root.strings("stop_strings")?.unwrap_or_default(),
            suppress_tokens,
            unused,
        })
    }
}

/// The tokens of `bad_words_ids` that are banned alone, and whether there are sequences as well.
///
/// # Errors
/// Where it is no list of lists of token ids.
fn bad_words(root: Fields<'_>) -> Result<(Vec<u32>, bool), ConfigError> {
    const KEY: &str = "bad_words_ids";
    let wrong = |value: &Value| root.wrong_type(KEY, "a list of lists of token ids", value);
    let (mut alone, mut has_sequences) = (Vec::new(), false);
    let Some(value) = root.value(KEY) else { return Ok((alone, has_sequences)) };
    for word in value.as_array().ok_or_else(|| wrong(value))? {
        let ids = word.as_array().ok_or_else(|| wrong(word))?;
        match ids.as_slice() {
            [id] => {
                let token = id.as_u64().and_then(|id| u32::try_from(id).ok());
                alone.push(token.ok_or_else(|| wrong(id))?);
            }
            _ => has_sequences = true,
        }
    }
    Ok((alone, has_sequences))
}

/// The number under `key`, if it is `possible`.
fn within(
    root: Fields<'_>,
    key: &str,
    reason: &str,
    possible: impl Fn(f64) -> bool,
) -> Result<Option<f64>, ConfigError> {
    match root.number(key)? {
        Some(value) if !possible(value) => {
            Err(ConfigError::impossible(root.file(), root.path(key), value, reason))
        }
        value => Ok(value),
    }
}
