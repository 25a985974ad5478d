//! `Step`: what one token of a generation brings.

use crate::logprobs::TokenLogprob;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model chose one of its end-of-sequence tokens.
    Eos,
    /// One of the request's stop strings was completed.
    StopString,
    /// The model chose one of the request's stop tokens.
    StopToken,
    /// `max_tokens`, the model's last position or the cache's end was reached.
    Length,
    /// The reply went round in a circle, which [`SamplingParams::loop_tokens`](crate::SamplingParams::loop_tokens) ends.
    Repetition,
    /// The request's [`CancelToken`](crate::CancelToken) was cancelled, or the batch was stopped.
    Cancelled,
    /// The caller's predicate found the reply complete
    /// ([`ReplyControl::is_complete`](crate::batched::ReplyControl::is_complete)).
    Complete,
}

impl FinishReason {
    /// The name in OpenAI-style responses: `stop`, `length`, `repetition` or `cancelled`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eos | Self::StopString | Self::StopToken | Self::Complete => "stop",
            Self::Length => "length",
            Self::Repetition => "repetition",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One step of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The chosen token; `None` only in a last step that chose none (cancelled, out of room, or
    /// complete).
    pub token: Option<u32>,
    /// Natural logarithm of the token's probability under the model, before bias, penalties,
    /// temperature and truncation; where the request asks for `logprobs`.
    pub logprob: Option<f32>,
    /// The most likely tokens under the model, best first; as many as the request asks for.
    pub top_logprobs: Vec<TokenLogprob>,
    /// Text that is now safe to print: it is not part of a stop string, whatever follows.
    pub text: String,
    /// Why this is the last step; `None` where more follow.
    pub finish: Option<FinishReason>,
}

/// The text that the step brings.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
