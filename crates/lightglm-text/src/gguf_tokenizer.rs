//! Builds the tokenizer.json that a GGUF file's vocabulary stands for.

use serde_json::{Map, Value, json};

use crate::error::TextError;
use crate::gguf_vocabulary::GgufVocabulary;
use crate::pre_tokenizer::PreTokenizer;

/// What errors call the vocabulary of a GGUF file.
pub(crate) const ORIGIN: &str = "tokenizer.ggml";

/// What `tokenizer.ggml.pre` says of a GLM.
const GLM_PRE_TOKENIZERS: [&str; 2] = ["glm4", "chatglm-bpe"];

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
    let pre_tokenizer = match vocabulary.pre.as_str() {
        // Written before the key was; the vocabulary tells.
        "" if glm_prefix(vocabulary).is_some() => PreTokenizer::named(GLM_PRE_TOKENIZERS[0])?,
        pre => PreTokenizer::named(pre)?,
    };
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

/// Puts in front of a text what the model's own tokenizer does.
fn post_processor(vocabulary: &GgufVocabulary) -> Result<Value, TextError> {
    let prefix = prefix(vocabulary)?;
    if prefix.is_empty() {
        return Ok(byte_level());
    }
    let special =
        |(_, token): &(u32, &str)| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let described = prefix.iter().map(|&(id, token)| {
        (token.to_owned(), json!({ "id": token, "ids": [id], "tokens": [token] }))
    });
    let mut single: Vec<Value> = prefix.iter().map(special).collect();
    single.push(json!({ "Sequence": { "id": "A", "type_id": 0 } }));
    Ok(json!({
        "type": "TemplateProcessing",
        "single": single,
        "pair": [
            { "Sequence": { "id": "A", "type_id": 0 } },
            { "Sequence": { "id": "B", "type_id": 1 } },
        ],
        "special_tokens": described.collect::<Map<_, _>>(),
    }))
}

/// The tokens in front of every text: GLM's two for a vocabulary of GLM's, else the BOS token where the
/// file asks for it. A GLM's file says that it wants none, or the first of the two: it has no field for
/// more than one. Another BOS that it does ask for is what it gets.
fn prefix(vocabulary: &GgufVocabulary) -> Result<Vec<(u32, &str)>, TextError> {
    let bos = match vocabulary.bos_token_id.filter(|_| vocabulary.add_bos_token) {
        None => None,
        Some(id) => match vocabulary.tokens.get(id as usize) {
            Some(token) => Some((id, token.as_str())),
            None => {
                let reason = format!("there is no token {id}");
                return Err(malformed("tokenizer.ggml.bos_token_id", reason));
            }
        },
    };
    let glm = glm_prefix(vocabulary).filter(|glm| bos.is_none_or(|bos| glm.contains(&bos)));
    Ok(match glm {
        Some(glm) => glm.to_vec(),
        None => bos.into_iter().collect(),
    })
}

/// `[gMASK]` and `<sop>`, where the vocabulary is one of GLM's.
///
/// Source: the `post_processor` of GLM-4's tokenizer.json, `get_prefix_tokens` of its
/// tokenization_chatglm.py.
fn glm_prefix(vocabulary: &GgufVocabulary) -> Option<[(u32, &str); 2]> {
    let pre = vocabulary.pre.as_str();
    if !pre.is_empty() && !GLM_PRE_TOKENIZERS.contains(&pre) {
        return None;
    }
    let types = vocabulary.token_types.iter();
    let control = || {
        let tokens = (0..).zip(vocabulary.tokens.iter().map(String::as_str));
        let controls = tokens.zip(types.clone()).filter(|(_, kind)| **kind == CONTROL);
        controls.map(|(token, _)| token)
    };
    let find = |name: &str| control().find(|(_, token)| *token == name);
    Some([find("[gMASK]")?, find("<sop>")?])
}
