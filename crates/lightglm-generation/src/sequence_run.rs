//! `SequenceRun`: one request on its way through the model.

use lightglm_core::{KvCacheError, LmError, LogitRows, MediaPart, MediaRuns};
use lightglm_text::Detokenize;

use crate::cancel::CancelToken;
use crate::continuation::Continuation;
use crate::forward::ForwardError;
use crate::generation_error::GenerationError;
use crate::prefill_progress::PrefillProgress;
use crate::request::GenerationRequest;
use crate::sample_error::SampleError;
use crate::step::{FinishReason, Step};

/// A request on its way: how much of it its sequence holds, and what came out.
pub(crate) struct SequenceRun<D> {
    /// Tokens of earlier turns, which the context begins with.
    history: usize,
    /// Tokens of the context that the sequence holds.
    held: usize,
    cancel: CancelToken,
    media: MediaRuns,
    reply: Continuation<D>,
}

impl<D: Detokenize> SequenceRun<D> {
    /// The run of a request whose sequence holds its history, and nothing else.
    pub(crate) fn new(
        request: GenerationRequest<D>,
        vocab_size: usize,
    ) -> Result<Self, GenerationError> {
        let GenerationRequest { prompt, media, history, params, processors, .. } = request;
        if prompt.is_empty() {
            return Err(GenerationError::EmptyPrompt);
        }
        let context = [&history[..], &prompt].concat();
        if !media.is_empty() {
            media.check(&context, vocab_size)?;
        }
        let (eos, detokenizer) = (request.eos_token_ids, request.detokenizer);
        let mut reply = Continuation::new(params, eos, context, vocab_size, detokenizer)?;
        for processor in processors {
            reply.push_processor(processor);
        }
        let history = history.len();
        Ok(Self { history, held: history, cancel: request.cancel, media, reply })
    }

    /// Says that the sequence holds the first `tokens` of the context.
    pub(crate) fn hold(&mut self, tokens: usize) {
        self.held = tokens;
    }

    /// History and prompt.
    pub(crate) fn context(&self) -> &[u32] {
        self.reply.prompt()
    }

    /// Positions that the whole run takes: the last token of a reply is never fed.
    pub(crate) fn positions(&self) -> usize {
        self.context().len().saturating_add(self.reply.params().max_tokens - 1)
    }

    pub(crate) fn generated(&self) -> &[u32] {
        self.reply.generated()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.reply.is_finished()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    pub(crate) fn is_decoding(&self) -> bool {
        self.held == self.context().len()
    }

    pub(crate) fn progress(&self) -> PrefillProgress {
        let total = self.context().len() - self.history;
        PrefillProgress { done: self.held - self.history, total }
    }

    /// What the model runs next: at most `budget` tokens of the context, or the last chosen token.
    pub(crate) fn next(&self, budget: usize) -> (&[u32], LogitRows) {
        let rest = &self.context()[self.held..];
        if rest.is_empty() {
            let last = self.generated().last().map_or(&[][..], std::slice::from_ref);
            return (last, LogitRows::Last);
        }
        let tokens = &rest[..budget.min(rest.len())];
        let is_last = tokens.len() == rest.len();
        (tokens, if is_last { LogitRows::Last } else { LogitRows::None })
    }

    /// What stands beside the first `tokens` of [`Self::next`].
    pub(crate) fn media_of_next(&self, tokens: usize) -> MediaPart<'_> {
        let context = self.context().len();
        let place = match self.held < context {
            true => self.held,
            false => (context + self.generated().len()).saturating_sub(1),
        };
        self.media.part(place..place + tokens)
    }

    /// Notes that the model has run `next(budget)`.
    pub(crate) fn note_run(&mut self, budget: usize) {
        if !self.is_decoding() {
            self.held += self.next(budget).0.len();
        }
    }

    /// Whether a refused pass means that the text has reached the end of the room, not an error.
    pub(crate) fn is_out_of_room(&self, error: &ForwardError) -> bool {
        let no_room = matches!(
            error,
            ForwardError::Model(
                LmError::TooLong { .. } | LmError::Cache(KvCacheError::Full { .. })
            )
        );
        no_room && self.is_decoding()
    }

    /// Chooses the next token from `logits: [V]`.
    pub(crate) fn step(&mut self, logits: &mut [f32]) -> Result<Step, SampleError> {
        self.reply.step(logits)
    }

    /// The last step, which chooses no token.
    pub(crate) fn end(&mut self, reason: FinishReason) -> Step {
        self.reply.end(reason)
    }

    /// Stops without a step, after an error.
    pub(crate) fn abandon(&mut self) {
        self.reply.abandon();
    }
}
