//! `TokenizerConfig`: what tokenizer_config.json and the files beside it say of a vocabulary.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::TextError;
use crate::template_source::{malformed, read_if_present, special_tokens};
use crate::token_table::MAX_TOKEN_ID;
use crate::tokenizer_file::TokenizerFile;

/// What transformers builds a tokenizer with, beside its vocabulary.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenizerConfig {
    /// `tokenizer_class`, or the class of `auto_map`, which is run where both are there.
    pub(crate) class: Option<String>,
    /// `bos_token` and the like.
    special: BTreeMap<String, String>,
    /// `added_tokens_decoder`, or added_tokens.json: as tokenizer.json has them, by id.
    pub(crate) added: Vec<Value>,
    pub(crate) add_bos_token: Option<bool>,
    pub(crate) add_eos_token: Option<bool>,
    pub(crate) add_prefix_space: Option<bool>,
    pub(crate) legacy: Option<bool>,
}

impl TokenizerConfig {
    /// Reads tokenizer_config.json, special_tokens_map.json and added_tokens.json of `folder`, each where it
    /// is there.
    ///
    /// # Errors
    /// [`TextError::Read`], [`TextError::Malformed`].
    pub(crate) fn read(folder: &Path) -> Result<Self, TextError> {
        let path = folder.join("tokenizer_config.json");
        let config = json(&path)?;
        let mut special = special_tokens(&json(&folder.join("special_tokens_map.json"))?);
        special.extend(special_tokens(&config));
        let remote = config["auto_map"]["AutoTokenizer"].clone();
        let remote = remote.as_str().or_else(|| remote.as_array()?.first()?.as_str());
        let remote = remote.and_then(|path| path.rsplit('.').next());
        let class = remote.or_else(|| config["tokenizer_class"].as_str());
        let flag = |key: &str| match &config[key] {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            _ => Err(malformed(&path, key, "neither true nor false")),
        };
        let added = match &config["added_tokens_decoder"] {
            Value::Null => added_tokens_json(&folder.join("added_tokens.json"), &special)?,
            Value::Object(tokens) => {
                let tokens = tokens.iter().map(|(id, token)| {
                    let field = format!("added_tokens_decoder[{id:?}]");
                    decoded_token(id, token)
                        .ok_or_else(|| malformed(&path, &field, "not an id and a token"))
                });
                tokens.collect::<Result<_, _>>()?
            }
            _ => return Err(malformed(&path, "added_tokens_decoder", "not a JSON object")),
        };
        Ok(Self {
            class: class.map(str::to_owned),
            added,
            add_bos_token: flag("add_bos_token")?,
            add_eos_token: flag("add_eos_token")?,
            add_prefix_space: flag("add_prefix_space")?,
            legacy: flag("legacy")?,
            special,
        })
    }

    /// The text of `bos_token` or the like.
    pub(crate) fn special(&self, name: &str) -> Option<&str> {
        self.special.get(name).map(String::as_str)
    }
}

fn json(path: &Path) -> Result<Value, TextError> {
    match read_if_present(path)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| malformed(path, "(root)", &error.to_string())),
        None => Ok(Value::Null),
    }
}

fn decoded_token(id: &str, token: &Value) -> Option<Value> {
    let id = id.parse().ok().filter(|id| *id <= MAX_TOKEN_ID)?;
    let content = token["content"].as_str().filter(|content| !content.is_empty())?;
    let mut added = TokenizerFile::added_token(id, content, token["special"] == true);
    for field in ["single_word", "lstrip", "rstrip", "normalized"] {
        added[field] = Value::Bool(token[field] == true);
    }
    Some(added)
}

/// The file that folders have which are older than `added_tokens_decoder`: ids by token.
fn added_tokens_json(
    path: &Path,
    special: &BTreeMap<String, String>,
) -> Result<Vec<Value>, TextError> {
    let file = json(path)?;
    let tokens = file.as_object().into_iter().flatten().map(|(token, id)| {
        let is_special = special.values().any(|text| text == token);
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id <= MAX_TOKEN_ID);
        match id.filter(|_| !token.is_empty()) {
            Some(id) => Ok(TokenizerFile::added_token(id, token, is_special)),
            None => Err(malformed(path, token, "not an id")),
        }
    });
    tokens.collect()
}
