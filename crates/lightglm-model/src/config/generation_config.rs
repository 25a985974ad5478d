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
}

impl GenerationConfig {
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
        let root = Fields::root(file, &value)?;
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
            max_new_tokens: root
                .integer("max_new_tokens")?
                .map(|n| n.min(usize::MAX as u64) as usize),
        })
    }
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
