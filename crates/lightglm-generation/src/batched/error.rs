//! `BatchError`: why a batch could not be run.

use lightglm_core::{KvCacheError, LmError};

/// Why a batch could not be run. Prompts and continuations are named by their index.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A prompt has no tokens, so nothing can follow it.
    #[error("prompt {prompt} has no tokens")]
    EmptyPrompt {
        /// Index of the prompt.
        prompt: usize,
    },
    /// A continuation has no tokens, so there is nothing to score.
    #[error("continuation {continuation} has no tokens")]
    EmptyContinuation {
        /// Index of the continuation.
        continuation: usize,
    },
    /// A token id is outside of the model's vocabulary.
    #[error("{part} {index} has the token id {token}, the vocabulary's size is {vocab_size}")]
    TokenOutOfRange {
        /// `prompt` or `continuation`.
        part: &'static str,
        /// Index of the prompt or continuation.
        index: usize,
        /// The id.
        token: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// The cache could not be made, or would not be rewound.
    #[error("the KV cache of the batch: {source}")]
    Cache {
        /// What it said.
        #[from]
        source: KvCacheError,
    },
    /// The model refused a batch.
    #[error("the model refused prompts {prompts:?}: {source}")]
    Model {
        /// Indices of the prompts whose tokens were in the batch.
        prompts: Vec<usize>,
        /// What it said.
        source: LmError,
    },
    /// The model returned logits of another shape than `CausalLm` promises.
    #[error("the model returned logits of shape {actual:?} where {expected:?} was due")]
    LogitsShape {
        /// `[rows, vocab_size]`.
        expected: [usize; 2],
        /// What came.
        actual: [usize; 2],
    },
    /// The logits could not be read back from the device.
    #[error("reading the logits: {reason}")]
    ReadLogits {
        /// What the backend said.
        reason: String,
    },
    /// A row of logits has a NaN or no finite maximum, or gives a continuation no probability.
    #[error("the logits after prompt {prompt} give no finite score")]
    NotFinite {
        /// Index of the prompt.
        prompt: usize,
    },
}
