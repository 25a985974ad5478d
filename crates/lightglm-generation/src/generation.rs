//! `Generation`: a finished reply.

use crate::step::{FinishReason, Step};

/// A finished reply.
///
/// ```
/// # use lightglm_generation::{FinishReason, Generation, Step};
/// # let step = |token, text: &str, finish| Step {
/// #     token: Some(token), logprob: None, top_logprobs: vec![], text: text.into(), finish,
/// # };
/// # let steps = [step(7, "Hi", None), step(8, "!", None), step(0, "", Some(FinishReason::Eos))];
/// let reply: Generation = steps.into_iter().collect(); // or `Result`s of steps, from a `Generator`
/// assert_eq!((reply.text.as_str(), reply.finish), ("Hi!", FinishReason::Eos));
/// assert_eq!((&reply.tokens[..], reply.content()), (&[7, 8, 0][..], &[7, 8][..]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The chosen tokens, an end-of-sequence or stop token included.
    pub tokens: Vec<u32>,
    /// The text, without stop strings.
    pub text: String,
    /// Every step, with its log-probabilities.
    pub steps: Vec<Step>,
    /// Why it ended.
    pub finish: FinishReason,
}

impl Generation {
    /// The tokens without the end-of-sequence or stop token that ended the reply.
    pub fn content(&self) -> &[u32] {
        match (self.finish, &self.tokens[..]) {
            (FinishReason::Eos | FinishReason::StopToken, [content @ .., _]) => content,
            (_, tokens) => tokens,
        }
    }
}

/// Steps whose last one gives no reason were broken off by whoever took them:
/// [`FinishReason::Cancelled`].
impl FromIterator<Step> for Generation {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        let steps: Vec<Step> = steps.into_iter().collect();
        let tokens = steps.iter().filter_map(|step| step.token).collect();
        let text = steps.iter().map(|step| step.text.as_str()).collect();
        let finish = steps.last().and_then(|step| step.finish).unwrap_or(FinishReason::Cancelled);
        Self { tokens, text, steps, finish }
    }
}
