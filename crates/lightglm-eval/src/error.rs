//! `EvalError`: why a score could not be computed.

use lightglm_core::{KvCacheError, LmError};

/// Which of the models under evaluation an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelRole {
    /// The only model of [`perplexity`](crate::perplexity()).
    Subject,
    /// The model that [`kl_divergence`](crate::kl_divergence()) measures from.
    Reference,
    /// The model that [`kl_divergence`](crate::kl_divergence()) measures.
    Candidate,
}

impl std::fmt::Display for ModelRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Subject => "model",
            Self::Reference => "reference model",
            Self::Candidate => "candidate model",
        })
    }
}

/// Why a score could not be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// There is nothing to predict: no token, or a single one and no BOS to predict it from.
    #[error("{tokens} tokens leave nothing to predict")]
    EmptyText {
        /// Tokens in the text.
        tokens: usize,
    },
    /// A window of this length (BOS counted) holds no prediction.
    #[error("context_length {context_length} is too short, a window needs at least two tokens")]
    ContextTooShort {
        /// `Protocol::context_length`.
        context_length: usize,
    },
    /// A window has no position left whose prediction is scored.
    #[error("context_only {context_only} leaves nothing to score of {context_length} positions")]
    NothingScored {
        /// `Protocol::context_only`.
        context_only: usize,
        /// `Protocol::context_length`.
        context_length: usize,
    },
    /// A stride of zero would never reach the end of the text.
    #[error("the stride is zero")]
    ZeroStride,
    /// Consecutive windows would leave tokens between them which nobody scores.
    #[error("stride {stride} is more than the {window} tokens of text that a window holds")]
    StrideTooLong {
        /// `Protocol::stride`.
        stride: usize,
        /// Tokens of text in one window: `context_length`, less one where a BOS is put in front.
        window: usize,
    },
    /// A token id is outside of the model's vocabulary.
    #[error("token {index} of the text has id {token}, the vocabulary's size is {vocab_size}")]
    TokenOutOfRange {
        /// Position in the text.
        index: usize,
        /// The id.
        token: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// The protocol's BOS is outside of the model's vocabulary.
    #[error("the BOS id {token} is not below the vocabulary's size {vocab_size}")]
    BosOutOfRange {
        /// The id.
        token: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// The two models do not speak the same vocabulary.
    #[error(
        "the reference model has {reference} tokens in its vocabulary, the candidate {candidate}"
    )]
    VocabMismatch {
        /// The reference's vocabulary size.
        reference: usize,
        /// The candidate's vocabulary size.
        candidate: usize,
    },
    /// The model returned logits of another shape than `CausalLm` promises.
    #[error("the {role} returned logits of shape {actual:?} where {expected:?} was due")]
    LogitsShape {
        /// The model.
        role: ModelRole,
        /// `[rows, vocab_size]`.
        expected: [usize; 2],
        /// What came.
        actual: [usize; 2],
    },
    /// The logits could not be read back from the device.
    #[error("reading the logits of the {role}: {reason}")]
    ReadLogits {
        /// The model.
        role: ModelRole,
        /// What the backend said.
        reason: String,
    },
    /// A row of logits gives no finite score: a NaN, an infinity, or probability zero for a token
    /// that the text (or the reference model) does have.
    #[error("the {role}'s score of token {index} is {value}")]
    NotFinite {
        /// The model.
        role: ModelRole,
        /// Position in the text of the token that was to be predicted.
        index: usize,
        /// The negative log-likelihood or divergence, in nats.
        value: f64,
    },
    /// No cache could be made for a window.
    #[error("making a KV cache for the {role}: {source}")]
    Cache {
        /// The model.
        role: ModelRole,
        /// What the factory said.
        source: KvCacheError,
    },
    /// A model refused a window.
    #[error("the {role} at token {index} of the text: {source}")]
    Model {
        /// The model.
        role: ModelRole,
        /// Position in the text of the first token of the refused step.
        index: usize,
        /// What the model said.
        source: LmError,
    },
    /// The stop flag was raised.
    #[error("interrupted after {scored} of {total} tokens")]
    Interrupted {
        /// Tokens scored so far.
        scored: usize,
        /// Tokens to score.
        total: usize,
    },
}
