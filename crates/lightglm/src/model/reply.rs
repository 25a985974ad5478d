//! `Reply`: a finished answer, and what it cost.

use lightglm_generation::{FinishReason, ParsedReply, Step, parse_tool_calls};
use serde::Serialize;

/// A finished answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reply {
    /// The whole prompt, as the model saw it.
    pub prompt_token_ids: Vec<u32>,
    /// The chosen tokens, the one that ended the reply included.
    pub token_ids: Vec<u32>,
    /// Their log-probabilities, where [`SamplingParams::logprobs`](crate::SamplingParams) asked.
    pub logprobs: Vec<f32>,
    /// The text, without stop strings.
    pub text: String,
    /// Why it ended; `None` where it was dropped before its end.
    #[serde(skip)]
    pub finish: Option<FinishReason>,
    /// What it cost.
    #[serde(skip)]
    pub speed: Speed,
}

/// What a reply cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Tokens of the prompt that were not in the cache already.
    pub prompt_tokens: usize,
    /// Seconds until the first token.
    pub prompt_seconds: f64,
    /// Seconds from the first token to the last.
    pub decode_seconds: f64,
}

impl Reply {
    /// The reply's text and the calls of functions called `names` in it.
    pub fn tool_calls(&self, names: &[&str]) -> ParsedReply {
        parse_tool_calls(&self.text, names)
    }

    pub(crate) fn push(&mut self, step: &Step) {
        self.token_ids.extend(step.token);
        self.logprobs.extend(step.logprob);
        self.text.push_str(&step.text);
        self.finish = step.finish.or(self.finish);
    }
}
