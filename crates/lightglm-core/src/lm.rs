//! `CausalLm`: a batch of spans of tokens in, logits out.
//!
//! Shapes: `T` tokens of all spans, `R` requested rows, `V` vocab_size.

use burn::tensor::{Tensor, backend::Backend};

use crate::kv_cache::{KvCache, KvCacheError, SequenceId};
use crate::media::{MediaFault, MediaRows, Positions};
use crate::taps::Tap;

/// Which rows of a span's logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: the span only fills the cache (all but the last chunk of a long prompt).
    None,
    /// The row after the span's last token: what generation needs.
    Last,
    /// Every row: what scoring needs.
    All,
}

impl LogitRows {
    /// Rows of logits for a span of `tokens` tokens.
    pub const fn count(self, tokens: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Last => 1,
            Self::All => tokens,
        }
    }
}

/// The next tokens of one sequence.
///
/// Spans are packed, never padded: a prompt, a chunk of one, and a single decoded token can stand in
/// one batch. A span may begin and end inside of a picture: attention is causal over a picture's rows too, so
/// where a prompt is cut does not change what is computed.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The sequence in the cache. A sequence may stand in a batch only once.
    pub sequence: SequenceId,
    /// Token ids, at least one; those not below the vocabulary's size are places of media.
    pub tokens: &'a [u32],
    /// The rows of exactly these places, ascending.
    pub media: &'a [MediaRows<'a>],
    /// Where the tokens stand.
    pub positions: Positions<'a>,
    /// Which logits to return.
    pub logits: LogitRows,
}

impl<'a> Span<'a> {
    /// Tokens without media, whose positions continue where the cache says the sequence ends.
    pub const fn text(sequence: SequenceId, tokens: &'a [u32], logits: LogitRows) -> Self {
        Self { sequence, tokens, media: &[], positions: Positions::Follow, logits }
    }
}

/// A causal language model.
pub trait CausalLm<B: Backend> {
    /// Size of the logits' last dimension.
    fn vocab_size(&self) -> usize;

    /// Runs the spans, appends their keys and values to `cache`, and returns `[R, V]` f32 logits,
    /// `R` being the requested rows of all spans in order.
    ///
    /// The logits of a span do not depend on the other spans, bit for bit.
    ///
    /// # Errors
    /// [`LmError`]; the cache then holds what it held before.
    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
    ) -> Result<Tensor<B, 2>, LmError>;
}

/// Why a model refused a batch.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LmError {
    /// A token id is outside of the vocabulary, and no media stand in its place.
    #[error("token id {token} is not below the vocabulary's size {vocab_size}")]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// The media of a span do not fit it.
    #[error("sequence {sequence:?}: {fault}")]
    Media {
        /// The span's sequence.
        sequence: SequenceId,
        /// What does not fit.
        fault: MediaFault,
    },
    /// A span has no tokens, or there is no span.
    #[error("the batch has no tokens for sequence {0:?}")]
    EmptySpan(Option<SequenceId>),
    /// A sequence stands in the batch twice.
    #[error("sequence {0:?} stands in the batch twice")]
    RepeatedSequence(SequenceId),
    /// The sequence would grow past what the model's positions allow.
    #[error("position {position} is past the model's context of {limit} tokens")]
    TooLong {
        /// The first position past the end.
        position: usize,
        /// Tokens that the model was made for.
        limit: usize,
    },
    /// The cache refused.
    #[error(transparent)]
    Cache(#[from] KvCacheError),
    /// What the model is trained towards looks at a place that the model does not have, or does not show.
    #[error("objective: there is no {tap:?} in a model of {blocks} blocks")]
    Tap {
        /// The place.
        tap: Tap,
        /// The model's blocks, of those that it shows.
        blocks: usize,
    },
    /// What the model is trained towards has no answer for the batch.
    #[error("objective: {reason}")]
    Objective {
        /// Why.
        reason: String,
    },
}
