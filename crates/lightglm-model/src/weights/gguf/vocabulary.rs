//! A GGUF file's tokenizer metadata.

use lightglm_core::WeightError;

use super::config::{eos_token_ids, token_id};
use super::file::GgufFile;
use super::value::GgufValue;
use lightglm_text::GgufVocabulary;

/// Reads the `tokenizer.*` keys.
pub(super) fn read_vocabulary(file: &GgufFile) -> Result<GgufVocabulary, WeightError> {
    let malformed =
        |reason| WeightError::Malformed { file: file.path().into(), format: "GGUF", reason };
    let text = |key: &str| match file.get(key) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(malformed(format!("`{key}` is not a string"))),
        },
    };
    let strings = |key: &str| match file.get(key) {
        None => Ok(Vec::new()),
        Some(value) => match value.as_array().and_then(|array| array.as_strings()) {
            Some(strings) => Ok(strings.to_vec()),
            None => Err(malformed(format!("`{key}` is not an array of strings"))),
        },
    };
    let tokens = strings("tokenizer.ggml.tokens")?;
    if tokens.is_empty() {
        return Err(malformed("`tokenizer.ggml.tokens` is missing or empty".into()));
    }
    let key = "tokenizer.ggml.token_type";
    let token_types = match file.get(key) {
        None => Vec::new(),
        Some(value) => value
            .as_array()
            .and_then(|array| array.to_i32s())
            .ok_or_else(|| malformed(format!("`{key}` is not an array of integers")))?,
    };
    if !token_types.is_empty() && token_types.len() != tokens.len() {
        let (types, tokens) = (token_types.len(), tokens.len());
        return Err(malformed(format!("{types} token types for {tokens} tokens")));
    }
    let key = "tokenizer.ggml.scores";
    let scores = match file.get(key) {
        None => Vec::new(),
        Some(value) => value
            .as_array()
            .and_then(|array| array.to_f32s())
            .ok_or_else(|| malformed(format!("`{key}` is not an array of numbers")))?,
    };
    let flag = |name: &str, default: bool| {
        let value = file.get(&format!("tokenizer.ggml.{name}"));
        value.and_then(GgufValue::as_bool).unwrap_or(default)
    };
    let id = |name: &str| {
        let id = token_id(file, &format!("tokenizer.ggml.{name}_token_id"));
        id.map_err(|error| malformed(error.to_string()))
    };
    let (bos_token_id, pad_token_id) = (id("bos")?, id("padding")?);
    let eos_token_ids = eos_token_ids(file).map_err(|error| malformed(error.to_string()))?;
    let ids = eos_token_ids.iter().chain(&bos_token_id).chain(&pad_token_id);
    if let Some(id) = ids.into_iter().find(|id| **id as usize >= tokens.len()) {
        return Err(malformed(format!("special token {id} of {} tokens", tokens.len())));
    }
    let model = text("tokenizer.ggml.model")?.unwrap_or_default();
    // What llama.cpp takes files without the keys for.
    let is_sentencepiece = model == "llama";
    Ok(GgufVocabulary {
        pre: text("tokenizer.ggml.pre")?.unwrap_or_default(),
        tokens,
        token_types,
        merges: strings("tokenizer.ggml.merges")?,
        scores,
        bos_token_id,
        eos_token_ids,
        pad_token_id,
        add_bos_token: flag("add_bos_token", is_sentencepiece),
        add_eos_token: flag("add_eos_token", false),
        add_space_prefix: flag("add_space_prefix", is_sentencepiece),
        remove_extra_whitespaces: flag("remove_extra_whitespaces", false),
        chat_template: text("tokenizer.chat_template")?,
        model,
    })
}
