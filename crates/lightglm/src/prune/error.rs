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
    /// Nothing that is searched among is within the budget.
    #[error("a budget of {budget} {unit}: the smallest student that there is takes {smallest}")]
    Budget {
        /// `bytes` or `milliseconds`.
        unit: &'static str,
        /// The budget.
        budget: f64,
        /// What the cheapest choices cost together.
        smallest: f64,
    },
    /// A line of a search's scores is none.
    #[error("{}: line {line}: {reason}", file.display())]
    ScoreLine {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of a search is not what it should be.
    #[error("{}: {reason}", file.display())]
    SearchFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A table of latencies was measured in other circumstances.
    #[error("{}: {field} is {found}, here it is {expected}: measure anew, into another file", file.display())]
    LatencyMachine {
        /// The table.
        file: PathBuf,
        /// `processor`, `threads` or `depth`.
        field: &'static str,
        /// What the table was measured with.
        found: String,
        /// What is to be compared.
        expected: String,
    },
    /// A table of latencies lacks what is needed.
    #[error("{}: has nothing for `{key}`", file.display())]
    LatencyMissing {
        /// The table.
        file: PathBuf,
        /// Shape and scheme.
        key: String,
    },
    /// What was found for one teacher is to be cut out of another one.
    #[error("{}: has other weights than the teacher that was searched", file.display())]
    OtherTeacher {
        /// The checkpoint.
        file: PathBuf,
    },
}
