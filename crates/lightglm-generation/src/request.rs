//! `GenerationRequest`: what to generate, in which sequence of the cache.

use std::num::NonZeroUsize;

use crate::{CancelToken, SamplingParams};
use lightglm_core::SequenceId;

/// Prompt tokens a model runs at once, unless told otherwise: enough to keep its matrix products
/// busy, few enough to be cancelled soon and to bound the activations' memory.
pub const DEFAULT_PREFILL_CHUNK: NonZeroUsize = NonZeroUsize::new(512).unwrap();

/// A prompt and everything that decides what follows it.
#[derive(Clone, Debug)]
pub struct GenerationRequest<D> {
    /// The sequence of the cache that the prompt is appended to.
    pub sequence: SequenceId,
    /// Tokens to append, at least one.
    pub prompt: Vec<u32>,
    /// Tokens that the sequence holds already (an earlier turn), which penalties count.
    pub history: Vec<u32>,
    /// How tokens are chosen, and when to stop.
    pub params: SamplingParams,
    /// The model's end-of-sequence tokens.
    pub eos_token_ids: Vec<u32>,
    /// Turns tokens into text.
    pub detokenizer: D,
    /// Ends the generation from another thread.
    pub cancel: CancelToken,
}

impl<D> GenerationRequest<D> {
    /// A request without earlier turns, that nobody else can cancel.
    pub fn new(
        sequence: SequenceId,
        prompt: Vec<u32>,
        params: SamplingParams,
        eos_token_ids: Vec<u32>,
        detokenizer: D,
    ) -> Self {
        let (history, cancel) = (Vec::new(), CancelToken::new());
        Self { sequence, prompt, history, params, eos_token_ids, detokenizer, cancel }
    }

    /// Counts `history` in penalties.
    pub fn with_history(mut self, history: Vec<u32>) -> Self {
        self.history = history;
        self
    }

    /// Ends when `cancel` is cancelled.
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }
}
