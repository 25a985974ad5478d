//! `PruneError`.

use std::path::PathBuf;

/// Why a model cannot be cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// Codes and blocks cannot be taken apart.
    #[error("{}: is quantized: only a dense model can be pruned; quantize the student", file.display())]
    Quantized {
        /// The checkpoint.
        file: PathBuf,
    },
    /// The vocabulary is none of byte-level BPE.
    #[error("{}: {field} is {found}: only a vocabulary of byte-level BPE can be cut", file.display())]
    Tokenizer {
        /// The model.
        file: PathBuf,
        /// The field of tokenizer.json that says so.
        field: &'static str,
        /// What it holds.
        found: String,
    },
    /// A file of the text side is not what it should be.
    #[error("{}: {field}: {reason}", file.display())]
    TextFile {
        /// The file.
        file: PathBuf,
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A token that is to be kept is not there.
    #[error("vocabulary: there is no token {id}, the model has {vocab_size}")]
    NoSuchToken {
        /// Its id.
        id: u32,
        /// Rows of the model's table.
        vocab_size: usize,
    },
    /// A token goes that a file of the model needs.
    #[error("{}: token {id} is needed, and not kept", file.display())]
    TokenNotKept {
        /// The file.
        file: PathBuf,
        /// Its id in the teacher.
        id: u32,
    },
    /// A new model has no room for the teacher's tokens.
    #[error(
        "vocab_size: {vocab_size} rows are too few for the tokenizer, which has {tokens} tokens"
    )]
    TooFewRows {
        /// Rows of the table.
        vocab_size: usize,
        /// Tokens.
        tokens: usize,
    },
}
