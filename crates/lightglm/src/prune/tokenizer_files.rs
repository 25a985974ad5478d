//! The files beside the weights, with ids of a smaller vocabulary.

use std::path::Path;

use lightglm_distill::student::KeptTokens;
use serde_json::{Map, Value, json};

use super::PruneError;
use super::tokenizer_json::{BpeJson, TOKENIZER, id_of, text_file};

/// Lists of tokens that a generation may not choose or has to: what is not there any more falls out of them.
const LISTS: [&str; 3] = ["suppress_tokens", "begin_suppress_tokens", "bad_words_ids"];

/// Gives the text files of the model in `folder` the ids of `kept`.
///
/// # Errors
/// [`PruneError`], naming file and field.
pub(super) fn renumber(
    files: &mut [(String, Vec<u8>)],
    kept: &KeptTokens,
    folder: &Path,
) -> Result<(), PruneError> {
    for (name, bytes) in files {
        let change: fn(&mut Value, &KeptTokens) = match name.as_str() {
            TOKENIZER => {
                *bytes = BpeJson::read(bytes, folder)?.cut(kept)?;
                continue;
            }
            "tokenizer_config.json" => renumber_decoder,
            "added_tokens.json" => renumber_added,
            "generation_config.json" => renumber_ids,
            _ => continue,
        };
        let mut json: Value = lightglm_core::python_json(bytes)
            .map_err(|error| text_file(&folder.join(&*name), "(root)", error.to_string()))?;
        change(&mut json, kept);
        *bytes = format!("{json:#}\n").into_bytes();
    }
    Ok(())
}

/// The tokens that `json` (a config.json, a generation_config.json) names one by one: `eos_token_id` and the like.
pub(super) fn named_ids(json: &Value) -> Vec<u32> {
    let fields = json.as_object().into_iter().flatten();
    let named = fields.filter(|(key, _)| names_tokens(key)).flat_map(|(_, value)| match value {
        Value::Array(ids) => ids.iter().filter_map(id_of).collect(),
        id => Vec::from_iter(id_of(id)),
    });
    named.collect()
}

/// Gives the ids in `json` their new numbers, and drops from lists of tokens those that are not there any more.
pub(super) fn renumber_ids(json: &mut Value, kept: &KeptTokens) {
    let Some(fields) = json.as_object_mut() else { return };
    for (key, value) in fields {
        if names_tokens(key) || LISTS.contains(&key.as_str()) {
            *value = renumbered(value, kept).unwrap_or_default();
        }
    }
}

fn names_tokens(key: &str) -> bool {
    key.ends_with("_token_id") || key.ends_with("_token_ids")
}

/// Numbers and lists of numbers, also of lists; `None` for a token that is not kept, and for a list in a list that had
/// one: a ban of several tokens in a row that cannot come any more.
fn renumbered(value: &Value, kept: &KeptTokens) -> Option<Value> {
    match value {
        Value::Array(ids) => {
            let renumbered = ids.iter().filter_map(|id| match id {
                Value::Array(row) => {
                    let row: Option<Vec<Value>> =
                        row.iter().map(|id| renumbered(id, kept)).collect();
                    row.map(Value::Array)
                }
                id => self::renumbered(id, kept),
            });
            Some(Value::Array(renumbered.collect()))
        }
        id => Some(json!(kept.number(id_of(id)?)?)),
    }
}

/// tokenizer_config.json: `added_tokens_decoder` has ids for keys.
fn renumber_decoder(json: &mut Value, kept: &KeptTokens) {
    if let Some(decoder) = json.get_mut("added_tokens_decoder").and_then(Value::as_object_mut) {
        let number = |(id, token): (String, Value)| {
            Some((kept.number(id.parse().ok()?)?.to_string(), token))
        };
        *decoder = Map::from_iter(std::mem::take(decoder).into_iter().filter_map(number));
    }
}

/// added_tokens.json: ids by tokens.
fn renumber_added(json: &mut Value, kept: &KeptTokens) {
    if let Some(tokens) = json.as_object_mut() {
        let number = |(token, id): (String, Value)| Some((token, json!(kept.number(id_of(&id)?)?)));
        *tokens = Map::from_iter(std::mem::take(tokens).into_iter().filter_map(number));
    }
}
