//! Builds the tokenizer.json that a GGUF file's vocabulary stands for.

use serde_json::{Map, Value, json};

use crate::affixes::Affixes;
use crate::error::TextError;
use crate::gguf_vocabulary::GgufVocabulary;
use crate::pre_tokenizer::PreTokenizer;
use crate::sentencepiece::{self, Piece, PieceKind};
use crate::tokenizer_file::{Normalization, TokenizerFile};

/// What errors call the vocabulary of a GGUF file.
pub(crate) const ORIGIN: &str = "tokenizer.ggml";

/// What `tokenizer.ggml.pre` says of a GLM.
const GLM_PRE_TOKENIZERS: [&str; 2] = ["glm4", "chatglm-bpe"];

const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// The vocabulary as a tokenizer.json.
pub(crate) fn to_json(vocabulary: &GgufVocabulary) -> Result<Value, TextError> {
    let (types, tokens) = (vocabulary.token_types.len(), vocabulary.tokens.len());
    if types != 0 && types != tokens {
        return Err(for_tokens("token_type", "types", types, tokens));
    }
    match vocabulary.model.as_str() {
        "gpt2" => byte_level(vocabulary),
        "llama" => of_pieces(vocabulary),
        other => Err(TextError::UnsupportedTokenizer {
            origin: ORIGIN.to_owned(),
            field: "tokenizer.ggml.model",
            found: other.to_owned(),
        }),
    }
}

fn byte_level(vocabulary: &GgufVocabulary) -> Result<Value, TextError> {
    let pre_tokenizer = match vocabulary.pre.as_str() {
        // Written before the key was; the vocabulary tells.
        "" if glm_prefix(vocabulary).is_some() => PreTokenizer::named(GLM_PRE_TOKENIZERS[0])?,
        pre => PreTokenizer::named(pre)?,
    };
    let (vocab, added) = tokens(vocabulary);
    let merges = merges(vocabulary)?;
    let file = TokenizerFile { vocab, merges, added, affixes: affixes(vocabulary)? };
    Ok(file.byte_level(pre_tokenizer))
}

/// A vocabulary of SentencePiece's BPE, whose pieces have scores in place of merges.
///
/// Source: llama.cpp, src/llama-vocab.cpp, `llm_tokenizer_spm_session` and `LLAMA_VOCAB_TYPE_SPM`.
fn of_pieces(vocabulary: &GgufVocabulary) -> Result<Value, TextError> {
    let GgufVocabulary { tokens, scores, token_types, .. } = vocabulary;
    if scores.len() != tokens.len() {
        return Err(for_tokens("scores", "scores", scores.len(), tokens.len()));
    }
    if token_types.len() != tokens.len() {
        return Err(for_tokens("token_type", "types", token_types.len(), tokens.len()));
    }
    let pieces = tokens.iter().zip(scores).zip(token_types).enumerate();
    let pieces = pieces.map(|(id, ((text, &score), &number))| {
        let kind = PieceKind::from_number(i64::from(number)).ok_or_else(|| {
            malformed(format!("tokenizer.ggml.token_type[{id}]"), format!("{number}, not 1 to 6"))
        })?;
        Ok(Piece { text: text.clone(), score, kind })
    });
    let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
    let how = Normalization {
        dummy_prefix: vocabulary.add_space_prefix,
        first_only: false,
        remove_extra_whitespaces: vocabulary.remove_extra_whitespaces,
    };
    sentencepiece::to_json(ORIGIN, &pieces, Vec::new(), affixes(vocabulary)?, &how)
}

fn malformed(field: impl Into<String>, reason: impl Into<String>) -> TextError {
    TextError::Malformed { origin: ORIGIN.to_owned(), field: field.into(), reason: reason.into() }
}

fn for_tokens(key: &str, what: &str, count: usize, tokens: usize) -> TextError {
    malformed(format!("tokenizer.ggml.{key}"), format!("{count} {what} for {tokens} tokens"))
}

fn tokens(vocabulary: &GgufVocabulary) -> (Map<String, Value>, Vec<Value>) {
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (token, id) in vocabulary.tokens.iter().zip(0u32..) {
        match vocabulary.token_types.get(id as usize).copied() {
            Some(kind @ (CONTROL | USER_DEFINED)) if !token.is_empty() => {
                added.push(TokenizerFile::added_token(id, token, kind == CONTROL));
            }
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

/// The tokens around every text. In front: GLM's two for a vocabulary of GLM's, else the BOS token where the
/// file asks for it. A GLM's file says that it wants none, or the first of the two: it has no field for
/// more than one. Another BOS that it does ask for is what it gets. Behind: the EOS token where the file asks
/// for it.
fn affixes(vocabulary: &GgufVocabulary) -> Result<Affixes, TextError> {
    let named = |wanted: bool, key: &str, id: Option<u32>| match id.filter(|_| wanted) {
        None => Ok(None),
        Some(id) => match vocabulary.tokens.get(id as usize) {
            Some(token) => Ok(Some((id, token.clone()))),
            None => Err(malformed(
                format!("tokenizer.ggml.{key}_token_id"),
                format!("there is no token {id}"),
            )),
        },
    };
    let bos = named(vocabulary.add_bos_token, "bos", vocabulary.bos_token_id)?;
    let first_eos = vocabulary.eos_token_ids.first().copied();
    let eos = named(vocabulary.add_eos_token, "eos", first_eos)?;
    let glm = glm_prefix(vocabulary)
        .filter(|glm| bos.as_ref().is_none_or(|bos| glm.contains(&(bos.0, bos.1.as_str()))));
    let front = match glm {
        Some(glm) => glm.map(|(id, token)| (id, token.to_owned())).to_vec(),
        None => bos.into_iter().collect(),
    };
    Ok(Affixes { front, behind: eos.into_iter().collect() })
}

/// `[gMASK]` and `<sop>`, where the vocabulary is one of GLM's.
///
/// Source: the `post_processor` of GLM-4's tokenizer.json, `get_prefix_tokens` of its
/// tokenization_chatglm.py.
fn glm_prefix(vocabulary: &GgufVocabulary) -> Option<[(u32, &str); 2]> {
    let pre = vocabulary.pre.as_str();
    if vocabulary.model != "gpt2" || !pre.is_empty() && !GLM_PRE_TOKENIZERS.contains(&pre) {
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
