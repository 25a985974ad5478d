//! `Rejection`: why a request was not accepted.

use std::time::Duration;

use lightglm_generation::SamplingError;

/// Why a request was not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Too many requests wait already.
    #[error("the queue is full: {waiting} requests wait")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// When to try again, by how fast the queue has been moving.
        retry_after: Duration,
    },
    /// The key has too many requests in the engine.
    #[error("this key has {open} requests open, which is its limit")]
    KeyLimit {
        /// Requests of the key, waiting or running.
        open: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The engine finishes what it has and takes nothing new.
    #[error("the server is shutting down")]
    Draining,
    /// There is no such model.
    #[error("there is no model `{name}`")]
    UnknownModel {
        /// As asked for.
        name: String,
    },
    /// The prompt has no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt leaves no room for a reply.
    #[error("the prompt has {tokens} tokens and the limit is {limit}")]
    PromptTooLong {
        /// Of the prompt.
        tokens: usize,
        /// The largest number accepted.
        limit: usize,
    },
    /// A token of the prompt is outside of the vocabulary, or is not what its media say.
    #[error("token id {token} is not below the vocabulary's size {vocab_size}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// The vocabulary's size.
        vocab_size: usize,
    },
    /// The sampling parameters are out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
}
