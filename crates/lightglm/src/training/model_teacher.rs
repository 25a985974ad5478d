//! `ModelTeacher`: an opened model as whom a student learns from, and what such a teacher is known by.

use lightglm_core::{LabelledSpan, LmError};
use lightglm_distill::{Teacher, TeacherRows};
use lightglm_train::trainer::TokenizedExample;
use rayon::prelude::*;

use super::seeds::mixed;
use crate::error::Error;
use crate::model::Model;

/// Bytes that one thread hashes at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A model that is asked about each span by itself.
pub(super) struct ModelTeacher<'a>(pub(super) &'a Model);

impl Teacher for ModelTeacher<'_> {
    fn rows(&self, batch: &[LabelledSpan<'_>]) -> Result<TeacherRows, LmError> {
        let Self(model) = self;
        let mut logits = Vec::new();
        for span in batch {
            let rows = model.inner.runtime.label_logits(span.tokens, span.targets);
            logits.extend(rows.map_err(as_lm_error)?);
        }
        TeacherRows::logits(logits, model.config().vocab_size)
            .map_err(|error| as_lm_error(error.into()))
    }
}

impl ModelTeacher<'_> {
    /// Refuses rows that are longer than what the model takes.
    pub(super) fn check_rows(&self, rows: &[TokenizedExample]) -> Result<(), Error> {
        let limit = self.0.max_context();
        match rows.iter().map(|row| row.tokens.len()).find(|tokens| *tokens > limit) {
            Some(tokens) => Err(Error::ConversationTooLong { tokens, limit }),
            None => Ok(()),
        }
    }

    /// A hash of what decides the model's answers: its configuration, the bytes of its weights, and how they and keys
    /// and values are held. Every byte is read.
    ///
    /// # Errors
    /// [`Error::Option`] for a model that is not what its files say: one in training, or with an adapter.
    pub(super) fn identity(&self) -> Result<u64, Error> {
        let inner = &self.0.inner;
        if !inner.is_as_stored {
            let reason = "has weights of its own, which no file has: save it and open the folder";
            return Err(Error::Option { option: "teacher", reason: reason.to_owned() });
        }
        let options = &inner.options;
        let held = format!(
            "{:?} {:?} {:?} {:?}",
            options.weights, options.sparsity, options.kv_dtype, options.kv_budget
        );
        let source = inner.checkpoint.weights();
        let config = inner.checkpoint.config().to_json();
        let mut hash = mixed(&[hash_of(config.as_bytes()), hash_of(held.as_bytes())]);
        for name in source.names() {
            hash = mixed(&[hash, hash_of(name.as_bytes())]);
            for tensor in source.stored_rows(&name)? {
                hash = mixed(&[hash, hash_of(tensor.dtype.as_bytes())]);
                for part in &tensor.parts {
                    hash = mixed(&[hash, hash_of(part)]);
                }
            }
        }
        Ok(hash)
    }
}

/// A hash of bytes and of how many they are.
fn hash_of(bytes: &[u8]) -> u64 {
    let pieces = bytes.par_chunks(PIECE_BYTES).map(|piece| {
        let words = piece.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        });
        mixed(&words.collect::<Vec<_>>())
    });
    let mut words: Vec<u64> = pieces.collect();
    words.push(bytes.len() as u64);
    mixed(&words)
}

fn as_lm_error(error: Error) -> LmError {
    match error {
        Error::Model(error) => error,
        error => LmError::Objective { reason: format!("the teacher: {error}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_their_number_count() {
        let bytes = vec![7_u8; 2 * PIECE_BYTES + 3];
        let whole = hash_of(&bytes);
        assert_ne!(whole, hash_of(&bytes[1..]));
        for at in [0, 8, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 2] {
            let mut other = bytes.clone();
            other[at] ^= 128;
            assert_ne!(whole, hash_of(&other), "{at}");
        }
        assert_ne!(hash_of(&[]), hash_of(&[0]));
        assert_ne!(hash_of(&[1]), hash_of(&[1, 0]));
    }
}
