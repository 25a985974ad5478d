//! `WaitingRequest`: a request that was accepted, on its way to the scheduler.

use std::time::Instant;

use lightglm_core::MediaRuns;
use lightglm_generation::{CancelToken, Continuation};
use lightglm_text::Detokenize;

use super::event::{EngineError, Event, EventSink};
use super::models::AnySlot;

/// A request that was accepted and that the scheduler has not seen yet.
pub(super) struct WaitingRequest {
    pub(super) key: String,
    pub(super) cache_salt: String,
    pub(super) priority: i32,
    pub(super) deadline: Option<Instant>,
    pub(super) cancel: CancelToken,
    pub(super) sink: EventSink,
    /// `None` for the base model.
    pub(super) model: Option<AnySlot>,
    /// See [`EngineRequest::prompt_logprobs`](super::EngineRequest::prompt_logprobs).
    pub(super) prompt_logprobs: Option<usize>,
    pub(super) media: MediaRuns,
    pub(super) reply: Continuation<Box<dyn Detokenize + Send>>,
}

impl WaitingRequest {
    /// The end of a request that no engine will run.
    pub(super) fn refuse(mut self, error: EngineError) {
        // Nobody acts on the answer: there is nothing left to cancel.
        let _ = (self.sink)(Event::Failed(error));
    }
}
