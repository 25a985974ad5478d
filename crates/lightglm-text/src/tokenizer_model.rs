//! The tokenizer.json that a folder's `tokenizer.model` stands for: a vocabulary of tiktoken's or of
//! SentencePiece's, with what the code beside it would have added.

use std::path::Path;

use serde_json::Value;

use crate::affixes::Affixes;
use crate::error::TextError;
use crate::pre_tokenizer::PreTokenizer;
use crate::tiktoken::Ranks;
use crate::tokenizer_config::TokenizerConfig;
use crate::tokenizer_file::TokenizerFile;
use crate::{sentencepiece, sentencepiece_model};

/// The file's name.
pub(crate) const NAME: &str = "tokenizer.model";

/// GLM-4's control tokens, numbered from behind its ranks. They stand in tokenizer_config.json, too.
///
/// Source: glm-4-9b-chat, tokenizer_config.json.
const GLM_TOKENS: [&str; 14] = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
];

/// The classes that cut texts as GLM-4 does.
const GLM_CLASSES: [&str; 1] = ["ChatGLM4Tokenizer"];
/// The classes that are SentencePiece's model and nothing else.
const LLAMA_CLASSES: [&str; 4] =
    ["LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast"];
/// The classes that say nothing of the tokenizer: it stands in tokenizer.json.
const ANY_CLASSES: [&str; 2] = ["PreTrainedTokenizerFast", "TokenizersBackend"];

/// Whose a folder's tokenizer is, where its tokenizer_config.json does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerFamily {
    /// GLM-4's: tiktoken's ranks.
    Glm,
    /// Llama's and Mistral's: SentencePiece's pieces, or, from Llama 3 on, tiktoken's ranks.
    Llama,
}

/// What tokenizer.json would say, of `bytes`, those of `folder`'s `tokenizer.model`.
///
/// # Errors
/// [`TextError`]: what of the folder's files is malformed, or not supported.
pub(crate) fn to_json(
    folder: &Path,
    bytes: &[u8],
    family: TokenizerFamily,
) -> Result<Value, TextError> {
    let origin = folder.join(NAME).display().to_string();
    if bytes.starts_with(b"version https://git-lfs") {
        let reason = "a Git LFS pointer and not the vocabulary: run `git lfs pull` in the folder";
        let (field, reason) = ("(root)".to_owned(), reason.to_owned());
        return Err(TextError::Malformed { origin, field, reason });
    }
    let config = TokenizerConfig::read(folder)?;
    let class = config.class.as_deref().filter(|class| !ANY_CLASSES.contains(class));
    let is_glm = class.map_or(family == TokenizerFamily::Glm, |class| GLM_CLASSES.contains(&class));
    let is_llama =
        class.map_or(family == TokenizerFamily::Llama, |class| LLAMA_CLASSES.contains(&class));
    let is_pieces = sentencepiece_model::is_model(bytes);
    match (is_glm, is_llama) {
        (true, _) if !is_pieces => glm(bytes, &origin, config),
        (_, true) if is_pieces => llama(bytes, &origin, &config),
        (_, true) => llama3(bytes, &origin, config),
        _ => Err(TextError::UnsupportedTokenizer {
            origin,
            field: "tokenizer_class",
            found: match (class, is_pieces) {
                (Some(class), false) => class.to_owned(),
                (class, true) => {
                    format!("{} with a SentencePiece model", class.unwrap_or("a GLM's"))
                }
                (None, false) => "not named".to_owned(),
            },
        }),
    }
}

/// GLM-4 of 2024.
///
/// Source: glm-4-9b-chat, tokenization_chatglm.py, `ChatGLM4Tokenizer`.
fn glm(bytes: &[u8], origin: &str, config: TokenizerConfig) -> Result<Value, TextError> {
    let ranks = Ranks::read(bytes, origin)?;
    let added = match config.added.is_empty() {
        true => (ranks.end()..)
            .zip(GLM_TOKENS)
            .map(|(id, token)| TokenizerFile::added_token(id, token, true))
            .collect(),
        false => config.added,
    };
    let front = ["[gMASK]", "<sop>"].map(|token| Some((id_of(&added, token)?, token.to_owned())));
    let front = front.into_iter().collect::<Option<Vec<_>>>().unwrap_or_default();
    let affixes = Affixes { front, ..Affixes::default() };
    let file = TokenizerFile { added, affixes, ..ranks.to_file(origin)? };
    Ok(file.byte_level(PreTokenizer::named("glm4")?))
}

/// Llama 3, whose control tokens stand in tokenizer_config.json alone.
fn llama3(bytes: &[u8], origin: &str, config: TokenizerConfig) -> Result<Value, TextError> {
    let ranks = Ranks::read(bytes, origin)?;
    if config.added.is_empty() {
        return Err(TextError::Malformed {
            origin: origin.to_owned(),
            field: "control tokens".to_owned(),
            reason: "tokenizer_config.json has no added_tokens_decoder that names them".to_owned(),
        });
    }
    let affixes = affixes(&config, &|token| id_of(&config.added, token), [None, None]);
    let file = TokenizerFile { added: config.added, affixes, ..ranks.to_file(origin)? };
    Ok(file.byte_level(PreTokenizer::named("llama3")?))
}

/// Llama, Llama 2, Mistral, and who took their tokenizer.
fn llama(bytes: &[u8], origin: &str, config: &TokenizerConfig) -> Result<Value, TextError> {
    let mut model = sentencepiece_model::read(bytes, origin)?;
    let piece_id = |token: &str| {
        let at = model.pieces.iter().position(|piece| piece.text == token);
        id_of(&config.added, token).or_else(|| u32::try_from(at?).ok())
    };
    let by_model = |id: Option<u32>| id.map(|id| (id, model.pieces[id as usize].text.clone()));
    let own = [model.bos_id, model.eos_id].map(by_model);
    let affixes = affixes(config, &piece_id, own);
    model.how.first_only = config.legacy == Some(false);
    model.how.dummy_prefix &= config.add_prefix_space != Some(false);
    sentencepiece::to_json(origin, &model.pieces, config.added.clone(), affixes, &model.how)
}

/// A token with its id, where there is one.
type Named = Option<(u32, String)>;

/// The BOS token unless it is not wanted, the EOS token where it is; `own` are those of the vocabulary, for
/// a folder that names none.
fn affixes(
    config: &TokenizerConfig,
    id_of: &dyn Fn(&str) -> Option<u32>,
    own: [Named; 2],
) -> Affixes {
    let named = |name: &str, own: Named| match config.special(name) {
        Some(token) => id_of(token).map(|id| (id, token.to_owned())),
        None => own,
    };
    let [own_bos, own_eos] = own;
    let bos = named("bos_token", own_bos).filter(|_| config.add_bos_token.unwrap_or(true));
    let eos = named("eos_token", own_eos).filter(|_| config.add_eos_token.unwrap_or(false));
    Affixes { front: bos.into_iter().collect(), behind: eos.into_iter().collect() }
}

fn id_of(added: &[Value], token: &str) -> Option<u32> {
    let found = added.iter().find(|added| added["content"] == token)?;
    found["id"].as_u64().and_then(|id| u32::try_from(id).ok())
}
