//! Texts through an encoder, a little at a time: what `/v1/embeddings` and `/v1/rerank` have in common.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use lightglm_text::EncoderInput;
use serde_json::Value;

use super::embedder::{EmbedderError, Encoders, Named, TextEmbedder, TextReranker};
use crate::http::admission::Admission;
use crate::http::error::ApiError;
use crate::http::request_log::meter::Meter;
use crate::http::state::{AppState, in_turn};

/// That there is an encoder, asked before a body is read in vain.
pub(in crate::http) struct EncoderServed;

impl FromRequestParts<AppState> for EncoderServed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Encoders { embedder, reranker } = &state.encoders;
        let scores = parts.uri.path().ends_with("rerank") && reranker.is_some();
        match embedder.is_some() || scores {
            true => Ok(Self),
            false => Err(ApiError::Embeddings),
        }
    }
}

/// Tokens that are run before another request has its turn.
const TOKENS_PER_TURN: usize = 2048;

/// What becomes of a text that is longer than the model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum TooLong {
    /// The request is refused.
    Refused,
    /// Its end is cut off, after so many tokens.
    CutAfter(usize),
}

impl TooLong {
    /// What the request says in `truncate` or `truncate_prompt_tokens`, else what the server does.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub(in crate::http) fn of(
        request: &Value,
        by_default: bool,
        most: usize,
    ) -> Result<Self, ApiError> {
        match &request["truncate_prompt_tokens"] {
            Value::Null => {}
            value => {
                let tokens = value.as_i64().filter(|tokens| {
                    *tokens == -1 || usize::try_from(*tokens).is_ok_and(|n| (1..=most).contains(&n))
                });
                let reason = || format!("it must be -1 or from 1 to {most}");
                let tokens =
                    tokens.ok_or_else(|| ApiError::field("truncate_prompt_tokens", reason()))?;
                return Ok(Self::CutAfter(usize::try_from(tokens).unwrap_or(most)));
            }
        }
        let truncates = match &request["truncate"] {
            Value::Null => by_default,
            Value::Bool(truncates) => *truncates,
            // Cohere's words.
            Value::String(word) if word == "END" => true,
            Value::String(word) if word == "NONE" => false,
            _ => return Err(ApiError::field("truncate", "it must be true or false")),
        };
        Ok(if truncates { Self::CutAfter(most) } else { Self::Refused })
    }

    /// Tokens that are read at most.
    pub(in crate::http) fn most(self) -> usize {
        match self {
            Self::Refused => usize::MAX,
            Self::CutAfter(most) => most,
        }
    }

    /// Refuses an input that was cut and may not be.
    pub(in crate::http) fn check(self, param: &str, input: &EncoderInput) -> Result<(), ApiError> {
        if self == Self::Refused && input.is_truncated() {
            let (tokens, most) = (input.whole_len, input.ids.len());
            return Err(ApiError::InputTooLong { param: param.to_owned(), tokens, most });
        }
        Ok(())
    }
}

/// A number for each input, made by an encoder.
pub(in crate::http) trait Run<T>: Clone + Send + 'static {
    /// Runs inputs; it blocks.
    fn run(&self, inputs: &[EncoderInput]) -> Result<Vec<T>, EmbedderError>;
}

impl Run<Vec<f32>> for Named<dyn TextEmbedder> {
    fn run(&self, inputs: &[EncoderInput]) -> Result<Vec<Vec<f32>>, EmbedderError> {
        self.model.embed(inputs)
    }
}

impl Run<f32> for Named<dyn TextReranker> {
    fn run(&self, inputs: &[EncoderInput]) -> Result<Vec<f32>, EmbedderError> {
        self.model.score(inputs)
    }
}

/// Runs inputs in turn with those of other requests: one turn at a time, on a thread that may wait. Nothing is
/// run any more once nobody waits; what was is counted.
///
/// # Errors
/// [`ApiError::Timeout`] and the like, [`ApiError::Internal`] where the encoder fails.
pub(in crate::http) async fn run<T: Send + 'static>(
    state: &AppState,
    admission: &mut Admission,
    meter: &Meter,
    encoder: impl Run<T>,
    inputs: Vec<EncoderInput>,
) -> Result<Vec<T>, ApiError> {
    let mut done = Vec::with_capacity(inputs.len());
    let inputs = Arc::new(inputs);
    for run in EncoderInput::runs(&inputs, TOKENS_PER_TURN) {
        let turn = done.len()..done.len() + run.len();
        let tokens = tokens_of(run);
        let (encoder, inputs) = (encoder.clone(), inputs.clone());
        let work = in_turn(state.encoder_turns.clone(), move || {
            encoder.run(&inputs[turn]).map_err(|error| {
                tracing::error!(%error, "the encoder failed");
                ApiError::Internal
            })
        });
        done.extend(admission.wait_for(work).await??);
        meter.read(tokens);
    }
    state.metrics.encoded(tokens_of(&inputs) as u64);
    Ok(done)
}

fn tokens_of(inputs: &[EncoderInput]) -> usize {
    inputs.iter().map(|input| input.ids.len()).sum()
}

/// Refuses requests of more texts or tokens than the server's limits allow.
///
/// # Errors
/// [`ApiError::Field`].
pub(in crate::http) fn check_tokens(
    state: &AppState,
    param: &str,
    inputs: &[EncoderInput],
) -> Result<usize, ApiError> {
    let most = state.config.limits.encoder_tokens;
    let tokens = tokens_of(inputs);
    if tokens > most {
        let reason =
            format!("{tokens} tokens in all, and the limit is {most}: send fewer at a time");
        return Err(ApiError::field(param, reason));
    }
    Ok(tokens)
}
