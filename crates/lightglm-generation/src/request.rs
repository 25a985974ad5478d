//! `GenerationRequest`: what to generate.

use std::num::NonZeroUsize;

use lightglm_core::MediaRuns;

use crate::cancel::CancelToken;
use crate::logits_processor::LogitsProcessor;
use crate::sampling_params::SamplingParams;

/// Prompt tokens a model runs at once, unless told otherwise: enough to keep its matrix products
/// busy, few enough to be cancelled soon and to bound the activations' memory.
pub const DEFAULT_PREFILL_CHUNK: NonZeroUsize = NonZeroUsize::new(512).unwrap();

/// A prompt and everything that decides what follows it.
///
/// Where in a cache it runs is not its business: a [`Generator`](crate::Generator) is given a
/// sequence, and a [batch](crate::batched::generate) finds one.
pub struct GenerationRequest<D> {
    /// The tokens to be answered, at least one.
    pub prompt: Vec<u32>,
    /// Pictures and recordings among the tokens of history and prompt, counted from the history's first.
    pub media: MediaRuns,
    /// Tokens in front of the prompt (earlier turns), which penalties count. The sequence that a
    /// [`Generator`](crate::Generator) appends to holds them already; a batch runs them first.
    pub history: Vec<u32>,
    /// How tokens are chosen, and when to stop.
    pub params: SamplingParams,
    /// The model's end-of-sequence tokens.
    pub eos_token_ids: Vec<u32>,
    /// Turns tokens into text.
    pub detokenizer: D,
    /// Act after the penalties and before the temperature, in order.
    pub processors: Vec<Box<dyn LogitsProcessor>>,
    /// Ends the generation from another thread.
    pub cancel: CancelToken,
}

impl<D> GenerationRequest<D> {
    /// A request without earlier turns and constraints, that nobody else can cancel.
    pub fn new(
        prompt: Vec<u32>,
        params: SamplingParams,
        eos_token_ids: Vec<u32>,
        detokenizer: D,
    ) -> Self {
        let (history, processors, cancel) = (Vec::new(), Vec::new(), CancelToken::new());
        let media = MediaRuns::default();
        Self { prompt, media, history, params, eos_token_ids, detokenizer, processors, cancel }
    }

    /// With pictures and recordings in places of history and prompt.
    pub fn with_media(mut self, media: MediaRuns) -> Self {
        self.media = media;
        self
    }

    /// Puts `history` in front of the prompt.
    pub fn with_history(mut self, history: Vec<u32>) -> Self {
        self.history = history;
        self
    }

    /// Adds a processor that acts after the penalties and before the temperature.
    pub fn with_processor(mut self, processor: impl LogitsProcessor + 'static) -> Self {
        self.processors.push(Box::new(processor));
        self
    }

    /// Ends when `cancel` is cancelled.
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }
}

impl<D> std::fmt::Debug for GenerationRequest<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenerationRequest")
            .field("prompt", &self.prompt)
            .field("history_tokens", &self.history.len())
            .field("params", &self.params)
            .field("eos_token_ids", &self.eos_token_ids)
            .field("processors", &self.processors.len())
            .field("cancelled", &self.cancel.is_cancelled())
            .finish_non_exhaustive()
    }
}
