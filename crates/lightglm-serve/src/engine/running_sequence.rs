//! `RunningSequence`: a request that the scheduler has taken in, and how far it is.

use std::time::Instant;

use burn::tensor::backend::Backend;
use lightglm_core::SequenceId;
use lightglm_generation::{CancelToken, Continuation, FinishReason};
use lightglm_text::Detokenize;

use super::event::{Event, EventSink, Usage};
use super::lookup::Lookup;
use super::models::ModelSlot;

/// A request that the scheduler has taken in, and how far it is.
///
/// It stands in the queue until there is room, and again after it was preempted: then it has no place
/// in the cache, and keeps its tokens.
pub(super) struct RunningSequence<B: Backend> {
    pub(super) arrival: u64,
    pub(super) key: String,
    pub(super) priority: i32,
    pub(super) deadline: Option<Instant>,
    pub(super) cancel: CancelToken,
    pub(super) sink: EventSink,
    pub(super) model: ModelSlot<B>,
    /// Whose keys and values it may find: those of the same model and the same salt of the request.
    pub(super) cache_salt: u64,
    pub(super) reply: Continuation<Box<dyn Detokenize + Send>>,
    /// Prompt and reply.
    pub(super) tokens: Vec<u32>,
    /// Where it is in the cache, while it runs.
    pub(super) id: Option<SequenceId>,
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

impl<B: Backend> RunningSequence<B> {
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
    pub(super) fn end(&mut self, reason: FinishReason) {
        let step = self.reply.end(reason);
        self.tell(Event::Step(step));
        self.tell_finished(reason);
    }

    pub(super) fn tell_finished(&mut self, reason: FinishReason) {
        let usage = self.usage;
        self.tell(Event::Finished { reason, usage });
    }
}
