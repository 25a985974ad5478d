//! `Event`: what a request hears of itself.

use std::ops::ControlFlow;

use lightglm_core::LmError;
use lightglm_generation::{FinishReason, SampleError, Step, TokenLogprob};

/// What happened to a request. The last event is `Finished` or `Failed`; there is always one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// It left the queue.
    Started {
        /// Tokens of the prompt that the cache held already.
        cached_tokens: usize,
    },
    /// The next tokens of the prompt, from its second on, where the request asks for
    /// [`prompt_logprobs`](super::EngineRequest::prompt_logprobs). All come before the first step, none twice.
    Prompt(Vec<PromptToken>),
    /// A token, or the text that was held back.
    Step(Step),
    /// The end, after the step that finished it.
    Finished {
        /// Why.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
    /// The end, without a reply.
    Failed(EngineError),
}

/// A token of a prompt, as the model would have gone on with what stands before it.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptToken {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The most likely tokens in its place, best first; as many as the request asks for.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: usize,
    /// Of the prompt, taken from the cache.
    pub cached_tokens: usize,
    /// Of the reply.
    pub completion_tokens: usize,
}

/// Takes a request's events, on the engine's thread: it must not wait.
///
/// `Break` says that nobody listens any more, which cancels the request.
pub type EventSink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// Why a request that was accepted got no reply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No token could be chosen.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The model refused the tokens.
    #[error(transparent)]
    Model(#[from] LmError),
    /// The deadline passed.
    #[error("the deadline passed after {generated} tokens")]
    DeadlinePassed {
        /// Tokens of the reply so far.
        generated: usize,
    },
    /// The model or a processor panicked; the engine goes on.
    #[error("the step that this request was part of panicked")]
    Panicked,
    /// The engine was dropped.
    #[error("the engine has stopped")]
    Stopped,
}
