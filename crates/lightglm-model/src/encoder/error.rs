//! What can be wrong with an encoder, or with what it is to read.

use std::path::PathBuf;

use lightglm_core::WeightError;
use lightglm_text::TextError;

use crate::config::ConfigError;

/// Why an encoder could not be opened, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// config.json, or one of sentence-transformers' files, is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are wrong.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The tokenizer is wrong.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The longest text of a model has no room for the tokens around it.
    #[error("{}: texts of at most {max_tokens} tokens, but {added} stand around each", folder.display())]
    NoRoom {
        /// The model's folder.
        folder: PathBuf,
        /// Tokens of the longest text.
        max_tokens: usize,
        /// Tokens around a text.
        added: usize,
    },
    /// A module takes vectors of another length than the one before it gives.
    #[error("{}: takes {expected} elements, but gets {actual}", module.display())]
    Dimensions {
        /// The module's folder.
        module: PathBuf,
        /// What it takes.
        expected: usize,
        /// What it gets.
        actual: usize,
    },
    /// A folder that was to score pairs has no head for it.
    #[error("{}: no cross-encoder: `architectures` names no model ForSequenceClassification", folder.display())]
    NoScores {
        /// The model's folder.
        folder: PathBuf,
    },
    /// An input has no tokens at all.
    #[error("input {index} has no tokens")]
    NoTokens {
        /// Which input, from 0.
        index: usize,
    },
    /// An input is longer than the model reads.
    #[error("input {index} has {tokens} tokens and the limit is {limit}")]
    TooLong {
        /// Which input, from 0.
        index: usize,
        /// Its tokens, those around the text included.
        tokens: usize,
        /// As many are read.
        limit: usize,
    },
    /// A token has no embedding.
    #[error("input {index}: token {token} is not below {vocab_size}")]
    UnknownToken {
        /// Which input, from 0.
        index: usize,
        /// The token.
        token: u32,
        /// Tokens that there are.
        vocab_size: usize,
    },
    /// A kind of text has no embedding.
    #[error("input {index}: text {kind} of an input, and the model tells {kinds} apart")]
    UnknownKind {
        /// Which input, from 0.
        index: usize,
        /// Which text of the input, from 0.
        kind: u32,
        /// Kinds that there are.
        kinds: usize,
    },
}
