//! Reads a tokenizer.json into the two tokenizers and the token table that text needs.
//!
//! The file is taken apart before the tokenizers library sees it, because two things are decided
//! here and not there: which tokens ordinary text may never become, and which ids tokens have (the
//! library numbers added tokens itself where their ids leave gaps).

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::TextError;
use crate::sentencepiece_alphabet::SPACE;
use crate::token_table::{Alphabet, MAX_TOKEN_ID, TokenTable};

/// A token the file adds to the model's vocabulary, with how it is matched in text.
#[derive(Clone, Debug)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    pub(crate) special: bool,
    /// Takes the white space before it along.
    pub(crate) lstrip: bool,
    /// Takes the white space after it along.
    pub(crate) rstrip: bool,
    /// Matches only where it is not part of a longer word.
    pub(crate) single_word: bool,
}

impl AddedToken {
    /// Whether ordinary text may never become this token.
    ///
    /// All added tokens are reserved, flagged special or not (`<think>` often is not), but runs of
    /// white space: those are no markup, only a shorter spelling of what anyone types.
    pub(crate) fn is_reserved(&self) -> bool {
        self.special || !self.content.chars().all(char::is_whitespace)
    }
}

/// Where a tokenizer puts a space in front of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DummyPrefix {
    Never,
    /// In front of a whole text.
    First,
    /// Behind each control token, too.
    Always,
}

/// What a tokenizer.json becomes.
pub(crate) struct TokenizerParts {
    /// Added tokens are matched.
    pub(crate) scaffold: tokenizers::Tokenizer,
    /// Reserved tokens do not exist.
    pub(crate) ordinary: tokenizers::Tokenizer,
    /// [`Self::ordinary`] without a space in front, where it puts one there.
    pub(crate) continuation: Option<tokenizers::Tokenizer>,
    pub(crate) dummy_prefix: DummyPrefix,
    /// Whether decoding leaves out a space in front of a text.
    pub(crate) strips_space: bool,
    pub(crate) table: Arc<TokenTable>,
    pub(crate) added: Vec<AddedToken>,
}

/// Names where an error came from.
struct Origin<'a>(&'a str);

impl Origin<'_> {
    fn malformed(&self, field: impl Into<String>, reason: impl ToString) -> TextError {
        TextError::Malformed {
            origin: self.0.to_owned(),
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    fn unsupported(&self, field: &'static str, found: &Value) -> TextError {
        TextError::UnsupportedTokenizer {
            origin: self.0.to_owned(),
            field,
            found: found.to_string().chars().take(200).collect(),
        }
    }

    fn id(&self, field: impl Into<String>, value: &Value) -> Result<u32, TextError> {
        let Some(id) = value.as_u64() else {
            return Err(self.malformed(field, "a token id is a non-negative integer"));
        };
        u32::try_from(id).ok().filter(|id| *id <= MAX_TOKEN_ID).ok_or_else(|| {
            TextError::TokenIdTooLarge { origin: self.0.to_owned(), id, max: MAX_TOKEN_ID }
        })
    }
}

/// Reads the JSON of a BPE tokenizer; `origin` names it in errors.
pub(crate) fn read(mut file: Value, origin: &str) -> Result<TokenizerParts, TextError> {
    let origin = Origin(origin);
    let root =
        file.as_object_mut().ok_or_else(|| origin.malformed("(root)", "not a JSON object"))?;
    let alphabet = alphabet(root, &origin)?;
    let strips_space = root["decoder"]["decoders"]
        .as_array()
        .is_some_and(|steps| steps.iter().any(|step| step["type"] == "Strip"));
    // A prompt is never cut or padded behind the caller's back.
    root.insert("truncation".to_owned(), Value::Null);
    root.insert("padding".to_owned(), Value::Null);
    let added = added_tokens(root, &origin)?;

    let model = root
        .get_mut("model")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| origin.malformed("model", "not a JSON object"))?;
    check_model(model, &origin)?;
    let vocab = model
        .get_mut("vocab")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| origin.malformed("model.vocab", "not a JSON object"))?;
    let table = token_table(alphabet, vocab, &added, &origin)?;
    for token in &added {
        // With its id in the vocabulary, the library cannot number it anew.
        vocab.entry(token.content.clone()).or_insert_with(|| json!(token.id));
    }

    let ordinary = without_reserved(&file, &added, alphabet);
    let mut continued = ordinary.clone();
    let dummy_prefix = take_dummy_prefix(&mut continued);
    let continuation = match dummy_prefix {
        DummyPrefix::Never => None,
        DummyPrefix::First | DummyPrefix::Always => Some(build(continued, &origin)?),
    };
    Ok(TokenizerParts {
        ordinary: build(ordinary, &origin)?,
        scaffold: build(file, &origin)?,
        continuation,
        dummy_prefix,
        strips_space,
        table: Arc::new(table),
        added,
    })
}

fn build(file: Value, origin: &Origin<'_>) -> Result<tokenizers::Tokenizer, TextError> {
    // Through text, because the library's readers borrow from their input.
    serde_json::to_vec(&file)
        .map_err(Into::into)
        .and_then(tokenizers::Tokenizer::from_bytes)
        .map_err(|source| TextError::Build { origin: origin.0.to_owned(), source })
}

/// Whose alphabet the vocabulary is in, by what turns texts into it and back.
fn alphabet(root: &Map<String, Value>, origin: &Origin<'_>) -> Result<Alphabet, TextError> {
    if is_sentencepiece(root) {
        return Ok(Alphabet::SentencePiece);
    }
    for (field, list) in [("pre_tokenizer", "pretokenizers"), ("decoder", "decoders")] {
        let part = root.get(field).unwrap_or(&Value::Null);
        let is_byte_level = |value: &Value| value["type"] == "ByteLevel";
        let in_sequence = part[list].as_array().is_some_and(|all| all.iter().any(is_byte_level));
        if !is_byte_level(part) && !in_sequence {
            return Err(origin.unsupported(field, part));
        }
    }
    Ok(Alphabet::ByteLevel)
}

/// Whether tokens are decoded as SentencePiece's: spaces, bytes, and the space in front of a text.
fn is_sentencepiece(root: &Map<String, Value>) -> bool {
    let model = root.get("model").unwrap_or(&Value::Null);
    let steps = root.get("decoder").map(|decoder| &decoder["decoders"]);
    let Some([spaces, bytes, fuse, rest @ ..]) = steps.and_then(Value::as_array).map(Vec::as_slice)
    else {
        return false;
    };
    let space = SPACE.to_string();
    model["byte_fallback"] == true
        && spaces["type"] == "Replace"
        && spaces["pattern"]["String"] == space
        && spaces["content"] == " "
        && bytes["type"] == "ByteFallback"
        && fuse["type"] == "Fuse"
        && match rest {
            [] => true,
            [strip] => {
                strip["type"] == "Strip"
                    && strip["content"] == " "
                    && strip["start"] == 1
                    && strip["stop"] == 0
            }
            _ => false,
        }
}

/// Takes out of the file what puts a space in front of text, and says where it did.
fn take_dummy_prefix(file: &mut Value) -> DummyPrefix {
    let space = SPACE.to_string();
    let is_prepend = |step: &Value| step["type"] == "Prepend" && step["prepend"] == space;
    let normalizer = &mut file["normalizer"];
    let mut found = DummyPrefix::Never;
    if is_prepend(normalizer) {
        *normalizer = Value::Null;
        found = DummyPrefix::Always;
    } else if let Some(steps) = normalizer["normalizers"].as_array_mut() {
        let all = steps.len();
        steps.retain(|step| !is_prepend(step));
        if steps.len() < all {
            found = DummyPrefix::Always;
        }
    }
    let pre_tokenizer = &mut file["pre_tokenizer"];
    let steps: &mut [Value] = match pre_tokenizer["type"] == "Sequence" {
        true => pre_tokenizer["pretokenizers"].as_array_mut().map_or(&mut [], Vec::as_mut_slice),
        false => std::slice::from_mut(pre_tokenizer),
    };
    for step in steps.iter_mut().filter(|step| step["type"] == "Metaspace") {
        // What files without the one key or the other mean.
        let added = step["add_prefix_space"] != false;
        match step["prepend_scheme"].as_str() {
            Some("first") => found = DummyPrefix::First,
            Some("never") => {}
            None if !added => {}
            _ => found = DummyPrefix::Always,
        }
        step["prepend_scheme"] = json!("never");
        step["add_prefix_space"] = json!(false);
    }
    found
}

fn check_model(model: &mut Map<String, Value>, origin: &Origin<'_>) -> Result<(), TextError> {
    match model.get("type") {
        Some(kind) if kind == "BPE" => {}
        None if model.contains_key("merges") => {}
        kind => return Err(origin.unsupported("model.type", kind.unwrap_or(&Value::Null))),
    }
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        match model.get(field) {
            None | Some(Value::Null) => {}
            Some(affix) if affix == "" => {}
            Some(affix) => {
                return Err(origin.unsupported("model: subword prefix or suffix", affix));
            }
        }
    }
    // Dropout is for training the tokenizer; ids would differ from call to call.
    model.insert("dropout".to_owned(), Value::Null);
    Ok(())
}

fn added_tokens(
    root: &Map<String, Value>,
    origin: &Origin<'_>,
) -> Result<Vec<AddedToken>, TextError> {
    let list = match root.get("added_tokens") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(origin.malformed("added_tokens", "not a list")),
    };
    let mut added = Vec::with_capacity(list.len());
    for (index, token) in list.iter().enumerate() {
        let field = |name: &str| format!("added_tokens[{index}].{name}");
        let content = token["content"]
            .as_str()
            .filter(|content| !content.is_empty())
            .ok_or_else(|| origin.malformed(field("content"), "not a text, or empty"))?;
        added.push(AddedToken {
            id: origin.id(field("id"), &token["id"])?,
            content: content.to_owned(),
            special: token["special"] == true,
            lstrip: token["lstrip"] == true,
            rstrip: token["rstrip"] == true,
            single_word: token["single_word"] == true,
        });
    }
    Ok(added)
}

fn token_table(
    alphabet: Alphabet,
    vocab: &Map<String, Value>,
    added: &[AddedToken],
    origin: &Origin<'_>,
) -> Result<TokenTable, TextError> {
    let mut table = TokenTable::new(alphabet);
    for (token, id) in vocab {
        let id = origin.id(format!("model.vocab[{token:?}]"), id)?;
        table.insert_ordinary(origin.0, token, id)?;
    }
    let mut seen = HashSet::new();
    for token in added {
        if !seen.insert((token.id, token.content.as_str())) {
            continue;
        }
        let reserved = token.is_reserved();
        table.insert_added(origin.0, &token.content, token.id, token.special, reserved)?;
    }
    Ok(table)
}

/// The file again, in which no reserved token exists: neither as an added token, nor in the
/// vocabulary, nor as what a merge takes or makes, nor as the unknown token. SentencePiece's unknown token
/// stays, which no spelling of it leads to.
fn without_reserved(file: &Value, added: &[AddedToken], alphabet: Alphabet) -> Value {
    let reserved: HashSet<&str> = added
        .iter()
        .filter(|token| token.is_reserved())
        .map(|token| token.content.as_str())
        .collect();
    let is_reserved = |token: &str| reserved.contains(token);
    let mut file = file.clone();
    file["post_processor"] = Value::Null;
    if let Some(list) = file["added_tokens"].as_array_mut() {
        list.retain(|token| token["content"].as_str().is_some_and(|text| !is_reserved(text)));
    }
    let model = &mut file["model"];
    if alphabet == Alphabet::ByteLevel {
        model["unk_token"] = Value::Null;
    }
    let unknown = model["unk_token"].clone();
    if let Some(vocab) = model["vocab"].as_object_mut() {
        vocab.retain(|token, _| !is_reserved(token) || unknown == *token);
    }
    if let Some(merges) = model["merges"].as_array_mut() {
        merges.retain(|merge| {
            let Some((left, right)) = merge_pair(merge) else { return true };
            !is_reserved(left) && !is_reserved(right) && !is_reserved(&format!("{left}{right}"))
        });
    }
    file
}

/// Both spellings of a merge: `["a", "b"]` and, in older files, `"a b"`.
fn merge_pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(pair) => pair.split_once(' '),
        _ => Some((merge[0].as_str()?, merge[1].as_str()?)),
    }
}
