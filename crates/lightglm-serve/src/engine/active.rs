//! `Active`: a request inside the engine, waiting or running.

use std::time::Instant;

use burn::tensor::backend::Backend;
use lightglm_core::{LogitRows, SequenceId, Span};
use lightglm_generation::{CancelToken, Continuation, FinishReason};
use lightglm_text::Detokenize;

use super::event::{Event, EventSink, Usage};
use super::lookup::Lookup;
use super::models::ModelSlot;

/// A request, and how far it is.
pub(super) struct Active<B: Backend> {
    pub(super) arrival: u64,
    pub(super) key: String,
    pub(super) priority: i32,
    pub(super) deadline: Option<Instant>,
    pub(super) cancel: CancelToken,
    pub(super) sink: EventSink,
    pub(super) model: ModelSlot<B>,
    pub(super) reply: Continuation<Box<dyn Detokenize + Send>>,
    /// Prompt and reply.
    pub(super) tokens: Vec<u32>,
    /// Where it is in the cache, while it runs.
    pub(super) sequence: Option<SequenceId>,
    /// Tokens whose keys and values the cache holds.
    pub(super) held: usize,
    /// Of these, how many other requests can find.
    pub(super) published: usize,
    pub(super) usage: Usage,
    pub(super) started: bool,
    /// Whether it has been told its end.
    pub(super) over: bool,
    pub(super) lookup: Option<Lookup>,
}

impl<B: Backend> Active<B> {
    /// Tokens that the cache does not hold yet; 1 for a sequence that decodes.
    pub(super) fn rest(&self) -> usize {
        self.tokens.len() - self.held
    }

    /// Whether a span of one token brings the next one.
    pub(super) fn decodes(&self) -> bool {
        self.rest() == 1 && self.usage.completion_tokens > 0
    }

    /// Tells the client; where nobody listens, cancels. Nothing follows an end.
    pub(super) fn tell(&mut self, event: Event) {
        if self.over {
            return;
        }
        self.over = matches!(event, Event::Finished { .. } | Event::Failed(_));
        if (self.sink)(event).is_break() {
            self.cancel.cancel();
        }
    }

    /// The last two events, after an end that no token brought about.
    pub(super) fn finish(&mut self, reason: FinishReason) {
        let step = self.reply.end(reason);
        self.tell(Event::Step(step));
        self.tell_finished(reason);
    }

    pub(super) fn tell_finished(&mut self, reason: FinishReason) {
        let usage = self.usage;
        self.tell(Event::Finished { reason, usage });
    }
}

/// What a request runs in one step.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Index among the running.
    pub(super) index: usize,
    /// What the span says: tokens that are certain, and then guesses.
    pub(super) tokens: Vec<u32>,
    /// How many of them are guesses.
    pub(super) guessed: usize,
    /// Whether the next token is due after the last certain one.
    pub(super) last: bool,
    /// Whether the sequence decodes: no chunk of a prompt.
    pub(super) decodes: bool,
}

impl Share {
    /// Rows of logits that the span brings.
    pub(super) fn rows(&self) -> usize {
        self.logits().count(self.tokens.len())
    }

    pub(super) fn span(&self, sequence: SequenceId) -> Span<'_> {
        Span { sequence, tokens: &self.tokens, logits: self.logits() }
    }

    fn logits(&self) -> LogitRows {
        match (self.last, self.guessed) {
            (false, _) => LogitRows::None,
            (true, 0) => LogitRows::Last,
            (true, _) => LogitRows::All,
        }
    }
}
