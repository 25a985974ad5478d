//! Log-probabilities in the two forms that OpenAI has for them.

use lightglm_generation::{FinishReason, Step, TokenLogprob};
use lightglm_text::ChatText;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::engine::PromptToken;

/// What OpenAI says instead of minus infinity, which JSON does not have.
const LEAST: f32 = -9999.0;

/// The log-probabilities of a chat's reply.
#[derive(Serialize, Default, utoipa::ToSchema)]
pub(in crate::http) struct ChatLogprobs {
    /// One entry a token.
    pub(in crate::http) content: Vec<TokenEntry>,
    /// There are none.
    #[schema(required)]
    pub(super) refusal: Option<Vec<TokenEntry>>,
}

/// A token and its alternatives.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct TokenEntry {
    /// The token's text; broken characters are replaced.
    token: String,
    /// Natural logarithm of its probability.
    logprob: f32,
    /// The token's bytes.
    #[schema(required)]
    bytes: Option<Vec<u8>>,
    /// The most likely tokens in its place.
    top_logprobs: Vec<Alternative>,
}

/// A token that could have been chosen.
#[derive(Serialize, utoipa::ToSchema)]
struct Alternative {
    /// The token's text; broken characters are replaced.
    token: String,
    /// Natural logarithm of its probability.
    logprob: f32,
    /// The token's bytes.
    #[schema(required)]
    bytes: Option<Vec<u8>>,
}

/// The log-probabilities of a completion.
#[derive(Serialize, Default, utoipa::ToSchema)]
pub(in crate::http) struct CompletionLogprobs {
    /// The tokens' texts.
    tokens: Vec<String>,
    /// Natural logarithms of their probabilities; null of a prompt's first, before which nothing stands.
    token_logprobs: Vec<Option<f32>>,
    /// The most likely tokens in each place; null as above.
    #[schema(value_type = Vec<Option<Object>>)]
    top_logprobs: Vec<Option<Map<String, Value>>>,
    /// Where each token begins, in bytes of the tokens' texts put together.
    text_offset: Vec<usize>,
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LEAST }
}

fn token_text(text: &dyn ChatText, token: u32) -> (String, Option<Vec<u8>>) {
    let bytes = text.token_bytes(token);
    let name = bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (name.unwrap_or_default(), bytes.map(<[u8]>::to_vec))
}

/// The step's token and its log-probability, unless it only ended the reply.
fn reported(step: &Step) -> Option<(u32, f32)> {
    if matches!(step.finish, Some(FinishReason::Eos | FinishReason::StopToken)) {
        return None;
    }
    Some((step.token?, finite(step.logprob?)))
}

impl ChatLogprobs {
    /// The entry of a step, where it has one.
    pub(super) fn of(step: &Step, text: &dyn ChatText) -> Option<Self> {
        let (token, logprob) = reported(step)?;
        let alternative = |other: &lightglm_generation::TokenLogprob| {
            let (token, bytes) = token_text(text, other.token);
            Alternative { token, logprob: finite(other.logprob), bytes }
        };
        let top_logprobs = step.top_logprobs.iter().map(alternative).collect();
        let (token, bytes) = token_text(text, token);
        let entry = TokenEntry { token, logprob, bytes, top_logprobs };
        Some(Self { content: vec![entry], refusal: None })
    }
}

impl CompletionLogprobs {
    /// The entry of a step, where it has one; `offset` moves behind its text.
    pub(super) fn of(step: &Step, text: &dyn ChatText, offset: &mut usize) -> Option<Self> {
        let (token, logprob) = reported(step)?;
        let mut logprobs = Self::default();
        logprobs.push(text, token, Some((logprob, &step.top_logprobs)), offset);
        Some(logprobs)
    }

    /// The entry of a prompt's first token, of which there is nothing to say.
    pub(super) fn of_first(token: u32, text: &dyn ChatText, offset: &mut usize) -> Self {
        let mut logprobs = Self::default();
        logprobs.push(text, token, None, offset);
        logprobs
    }

    /// The entries of more tokens of a prompt.
    pub(super) fn of_prompt(
        tokens: &[PromptToken],
        text: &dyn ChatText,
        offset: &mut usize,
    ) -> Self {
        let mut logprobs = Self::default();
        for scored in tokens {
            let said = Some((finite(scored.logprob), &scored.top_logprobs[..]));
            logprobs.push(text, scored.token, said, offset);
        }
        logprobs
    }

    fn push(
        &mut self,
        text: &dyn ChatText,
        token: u32,
        said: Option<(f32, &[TokenLogprob])>,
        offset: &mut usize,
    ) {
        let (name, _) = token_text(text, token);
        self.text_offset.push(*offset);
        *offset += name.len();
        self.tokens.push(name);
        self.token_logprobs.push(said.map(|(logprob, _)| logprob));
        self.top_logprobs.push(said.map(|(_, top)| {
            let pair = |other: &TokenLogprob| {
                (token_text(text, other.token).0, json!(finite(other.logprob)))
            };
            top.iter().map(pair).collect()
        }));
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.tokens.append(&mut other.tokens);
        self.token_logprobs.append(&mut other.token_logprobs);
        self.top_logprobs.append(&mut other.top_logprobs);
        self.text_offset.append(&mut other.text_offset);
    }
}
