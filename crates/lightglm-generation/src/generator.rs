//! `Generator`: an iterator over the tokens of one sequence.

use std::num::NonZeroUsize;

use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvCache, SequenceId};
use lightglm_text::Detokenize;

use crate::forward::forward;
use crate::generation_error::GenerationError;
use crate::prefill_progress::PrefillProgress;
use crate::request::{DEFAULT_PREFILL_CHUNK, GenerationRequest};
use crate::sequence_run::SequenceRun;
use crate::step::{FinishReason, Step};

/// Generates one sequence, a [`Step`] at a time.
///
/// The first call of `next` runs the prompt, in chunks, so that it can be cancelled and its memory
/// stays bounded; each later call runs one token. After the step with a
/// [`finish`](Step::finish) reason, or after an error, the iterator is at its end. The cache then
/// holds the prompt and every chosen token but the last.
///
/// The text of all steps, put together, is the answer: no stop string, no half character. Collected,
/// they are a [`Generation`](crate::Generation).
pub struct Generator<'a, B: Backend, D: Detokenize> {
    model: &'a dyn CausalLm<B>,
    cache: &'a mut dyn KvCache<B>,
    sequence: SequenceId,
    run: SequenceRun<D>,
    prefill_chunk: NonZeroUsize,
    on_prefill: Option<Box<dyn FnMut(PrefillProgress) + 'a>>,
}

impl<'a, B: Backend, D: Detokenize> Generator<'a, B, D> {
    /// A generator that appends to `sequence` of `cache`.
    ///
    /// # Errors
    /// [`GenerationError::EmptyPrompt`], [`GenerationError::Sampling`].
    pub fn new(
        model: &'a dyn CausalLm<B>,
        cache: &'a mut dyn KvCache<B>,
        sequence: SequenceId,
        request: GenerationRequest<D>,
    ) -> Result<Self, GenerationError> {
        let run = SequenceRun::new(request, model.vocab_size())?;
        let (prefill_chunk, on_prefill) = (DEFAULT_PREFILL_CHUNK, None);
        Ok(Self { model, cache, sequence, run, prefill_chunk, on_prefill })
    }

    /// Runs the prompt in chunks of `tokens`.
    pub fn with_prefill_chunk(mut self, tokens: NonZeroUsize) -> Self {
        self.prefill_chunk = tokens;
        self
    }

    /// Calls `on_prefill` after every chunk of the prompt.
    pub fn with_prefill_callback(mut self, on_prefill: impl FnMut(PrefillProgress) + 'a) -> Self {
        self.on_prefill = Some(Box::new(on_prefill));
        self
    }

    /// The tokens chosen so far, an end-of-sequence or stop token included.
    pub fn generated(&self) -> &[u32] {
        self.run.generated()
    }

    fn step(&mut self) -> Result<Step, GenerationError> {
        loop {
            if self.run.is_cancelled() {
                return Ok(self.run.end(FinishReason::Cancelled));
            }
            let budget = self.prefill_chunk.get();
            let in_prompt = !self.run.is_decoding();
            let (tokens, logits) = self.run.next(budget);
            let media = self.run.media_of_next(tokens.len());
            let span = media.span(self.sequence, tokens, logits);
            let mut row = match forward(self.model, self.cache, &[span]) {
                Err(error) if self.run.is_out_of_room(&error) => {
                    return Ok(self.run.end(FinishReason::Length));
                }
                other => other?,
            };
            self.run.note_run(budget);
            if let (true, Some(on_prefill)) = (in_prompt, &mut self.on_prefill) {
                on_prefill(self.run.progress());
            }
            if !row.is_empty() {
                return Ok(self.run.step(&mut row)?);
            }
        }
    }
}

impl<B: Backend, D: Detokenize> Iterator for Generator<'_, B, D> {
    type Item = Result<Step, GenerationError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.run.is_finished() {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.run.abandon();
        }
        Some(step)
    }
}
