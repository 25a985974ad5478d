//! `BatchError`: why a batch could not be run.

use lightglm_core::KvCacheError;

use crate::forward::ForwardError;

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
    /// The cache would have 2^32 blocks or more.
    #[error("a cache of {sequences} sequences of {positions} positions is more than there can be")]
    TooLarge {
        /// Sequences at once.
        sequences: usize,
        /// Positions of each: the longest prompt and what is to follow it.
        positions: usize,
    },
    /// A forward pass brought no logits.
    #[error("prompts {prompts:?}: {source}")]
    Forward {
        /// Indices of the prompts whose tokens were in it.
        prompts: Vec<usize>,
        /// What the model or the backend said.
        source: ForwardError,
    },
    /// A row of logits has a NaN or no finite maximum, or gives a continuation no probability.
    #[error("the logits after prompt {prompt} give no finite score")]
    NotFinite {
        /// Index of the prompt.
        prompt: usize,
    },
}
