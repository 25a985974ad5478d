//! Which tokens of a vocabulary stay.

use lightglm_distill::student::{KeptTokens, close_under_merges};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_text::{Message, ModelText};
use serde_json::Value;

use super::PruneError;
use super::tokenizer_files::named_ids;
use super::tokenizer_json::{BpeJson, TOKENIZER};
use crate::error::Error;

/// What decides which tokens of a vocabulary stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepTokens {
    /// Texts whose tokens stay.
    pub texts: Vec<String>,
    /// Tokens that stay whatever texts say, by their ids.
    pub ids: Vec<u32>,
}

/// The tokens that the model of `checkpoint` keeps: those of `keep` and of a short conversation in its template, the
/// special ones and all others that are added, those that its configurations name, and the bytes; with both halves of
/// every merge that makes one of them.
///
/// The texts of `keep` are cut into the same pieces with these as with all. Any other text is cut into more, but still
/// comes back as it was where the whole vocabulary had a token for every byte.
///
/// # Errors
/// [`Error::Prune`] for a tokenizer that is not byte-level BPE and for ids that there are not; [`Error::Checkpoint`]
/// where there is none, [`Error::TextFiles`] where it refuses a text.
pub fn kept_tokens(checkpoint: &Checkpoint, keep: &KeepTokens) -> Result<KeptTokens, Error> {
    let files = checkpoint.text_files()?;
    let tokenizer = files.iter().find(|(name, _)| name == TOKENIZER);
    let bpe = match tokenizer {
        Some((_, bytes)) => BpeJson::read(bytes, checkpoint.path())?,
        // Says what is missing.
        None => return Err(no_tokenizer(checkpoint)),
    };
    let text = checkpoint.text()?;
    let vocab_size = checkpoint.config().vocab_size;
    if let Some(&id) = keep.ids.iter().find(|id| **id as usize >= vocab_size) {
        return Err(PruneError::NoSuchToken { id, vocab_size }.into());
    }
    let mut wanted = bpe.named();
    wanted.extend(&keep.ids);
    let named = of_configurations(checkpoint, &files)?;
    wanted.extend(named.into_iter().filter(|id| (*id as usize) < vocab_size));
    for id in (0..text.tokenizer.vocab_size()).filter_map(|id| u32::try_from(id).ok()) {
        if text.tokenizer.is_special(id)
            || text.tokenizer.token_bytes(id).is_some_and(|bytes| bytes.len() == 1)
        {
            wanted.push(id);
        }
    }
    for text_of_keep in &keep.texts {
        wanted.extend(text.tokenizer.encode_text(text_of_keep)?);
    }
    wanted.extend(of_template(&text));
    let kept = close_under_merges(wanted, &bpe.merges()?);
    match kept.ids().last() {
        Some(&id) if id as usize >= vocab_size => {
            Err(PruneError::NoSuchToken { id, vocab_size }.into())
        }
        _ => Ok(kept),
    }
}

fn no_tokenizer(checkpoint: &Checkpoint) -> Error {
    match checkpoint.tokenizer() {
        Err(error) => error.into(),
        Ok(_) => {
            let (file, field) = (checkpoint.path().to_owned(), "tokenizer.json");
            PruneError::Tokenizer { file, field, found: "not there".to_owned() }.into()
        }
    }
}

/// The tokens that config.json and generation_config.json name, and those that end a reply.
fn of_configurations(
    checkpoint: &Checkpoint,
    files: &[(String, Vec<u8>)],
) -> Result<Vec<u32>, Error> {
    let config = checkpoint.config();
    let mut ids = checkpoint.eos_token_ids()?;
    ids.extend(config.pad_token_id);
    ids.extend(config.bos_token_id);
    let own = std::fs::read(checkpoint.path().join("config.json")).ok();
    let generation = files.iter().find(|(name, _)| name == "generation_config.json");
    for bytes in own.iter().chain(generation.map(|(_, bytes)| bytes)) {
        // What is malformed was refused when the checkpoint was opened, or has no ids.
        let json: Value = lightglm_core::python_json(bytes).unwrap_or_default();
        ids.extend(named_ids(&json));
    }
    Ok(ids)
}

/// What the template writes around a question; nothing where it has no words for one.
fn of_template(text: &ModelText) -> Vec<u32> {
    let question = [Message::user("?")];
    let prompt = text.prompt(&question, &[], true);
    prompt.and_then(|prompt| prompt.encode(&text.tokenizer)).unwrap_or_default()
}
