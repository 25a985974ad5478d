//! Builds the tokenizer.json that a GGUF file's vocabulary stands for.

use serde_json::{Map, Value, json};

use crate::error::TextError;
use crate::gguf_vocabulary::GgufVocabulary;
use crate::pre_tokenizer::PreTokenizer;

/// What errors call the vocabulary of a GGUF file.
pub(crate) const ORIGIN: &str = "tokenizer.ggml";

const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// The vocabulary as a tokenizer.json.
pub(crate) fn to_json(vocabulary: &GgufVocabulary) -> Result<Value, TextError> {
    if vocabulary.model != "gpt2" {
        return Err(TextError::UnsupportedTokenizer {
            origin: ORIGIN.to_owned(),
            field: "tokenizer.ggml.model",
            found: vocabulary.model.clone(),
        });
    }
    let pre_tokenizer = PreTokenizer::named(&vocabulary.pre)?;
    let types = &vocabulary.token_types;
    if !types.is_empty() && types.len() != vocabulary.tokens.len() {
        return Err(malformed(
            "tokenizer.ggml.token_type",
            format!("{} types for {} tokens", types.len(), vocabulary.tokens.len()),
        ));
    }
    let (vocab, added) = tokens(vocabulary);
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer_json(pre_tokenizer),
        "post_processor": post_processor(vocabulary)?,
        "decoder": byte_level(),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre_tokenizer.ignore_merges,
            "vocab": vocab,
            "merges": merges(vocabulary)?,
        },
    }))
}

fn malformed(field: impl Into<String>, reason: impl Into<String>) -> TextError {
    TextError::Malformed { origin: ORIGIN.to_owned(), field: field.into(), reason: reason.into() }
}

fn tokens(vocabulary: &GgufVocabulary) -> (Map<String, Value>, Vec<Value>) {
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        match vocabulary.token_types.get(id).copied() {
            Some(kind @ (CONTROL | USER_DEFINED)) if !token.is_empty() => added.push(json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": kind == CONTROL,
            })),
            // Padding of the embedding table: the ids exist, no text leads to them. Converters give
            // several of them the same name, which a vocabulary by name cannot hold.
            Some(UNUSED) => {}
            // The first of two tokens of one name is the one that text can reach.
            _ => {
                vocab.entry(token.clone()).or_insert_with(|| json!(id));
            }
        }
    }
    (vocab, added)
}

fn merges(vocabulary: &GgufVocabulary) -> Result<Vec<Value>, TextError> {
    let merges = vocabulary.merges.iter().enumerate();
    merges
        .map(|(index, merge)| match merge.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                Ok(json!([left, right]))
            }
            _ => Err(malformed(
                format!("tokenizer.ggml.merges[{index}]"),
                format!("{merge:?} is not two tokens with a space between"),
            )),
        })
        .collect()
}

fn pre_tokenizer_json(pre_tokenizer: PreTokenizer) -> Value {
    let mut steps: Vec<Value> = pre_tokenizer
        .regexes
        .iter()
        .map(|regex| {
            json!({
                "type": "Split",
                "pattern": { "Regex": regex },
                "behavior": "Isolated",
                "invert": false,
            })
        })
        .collect();
    steps.push(byte_level());
    json!({ "type": "Sequence", "pretokenizers": steps })
}

fn byte_level() -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": false,
    })
}

/// Prepends the BOS token where the file asks for it.
fn post_processor(vocabulary: &GgufVocabulary) -> Result<Value, TextError> {
    let Some(id) = vocabulary.bos_token_id.filter(|_| vocabulary.add_bos_token) else {
        return Ok(byte_level());
    };
    let Some(bos) = vocabulary.tokens.get(id as usize) else {
        return Err(malformed("tokenizer.ggml.bos_token_id", format!("there is no token {id}")));
    };
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [
            { "SpecialToken": { "id": bos, "type_id": 0 } },
            { "Sequence": { "id": "A", "type_id": 0 } },
        ],
        "pair": [
            { "Sequence": { "id": "A", "type_id": 0 } },
            { "Sequence": { "id": "B", "type_id": 1 } },
        ],
        "special_tokens": { bos: { "id": bos, "ids": [id], "tokens": [bos] } },
    }))
}
