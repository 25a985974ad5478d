//! Anthropic's Messages API.

mod content;
mod request;
mod stream;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use self::request::{CountTokensRequest, FullRequest, MessagesRequest};
use self::stream::{Message, MessageEvents};
use super::admission::Admission;
use super::body::json_body::JsonBody;
use super::dialect::{Translated, collect};
use super::error::ApiError;
use super::openai::chat::prepare;
use super::openai::loosen::tell;
use super::peer::Peer;
use super::sse;
use super::state::AppState;

/// Answers, by Anthropic's API.
#[utoipa::path(post, path = "/v1/messages", tag = "anthropic",
    request_body = MessagesRequest, responses(
    (status = 200, description = "The message", body = Message)
))]
pub(super) async fn messages(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(request): JsonBody<FullRequest>,
) -> Result<Response, ApiError> {
    let Translated { body, names } = request.translate()?;
    let rename = |error| names.rename(error);
    let chat = prepare(&state, &peer, &mut admission, body).await.map_err(rename)?;
    let streams = chat.sampling.shared.stream;
    let not_enforced = chat.not_enforced.clone();
    let stop = chat.sampling.shared.params.stop.clone();
    let opening = chat.sampling.shared.opening.clone();
    let prompt_tokens = chat.prompts.first().map_or(0, |choice| choice.prompt.len());
    let (choices, reply) = chat.start(admission).map_err(rename)?;
    let events = MessageEvents::new(reply, stop, &opening, prompt_tokens);
    let mut response = match streams {
        true => sse::stream(choices, events),
        false => Json(collect(choices, events).await?.into_message()).into_response(),
    };
    tell(&mut response, &not_enforced);
    Ok(response)
}

/// The tokens of a message that is not answered.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct TokenCount {
    /// Of the prompt, with all that the chat template writes.
    input_tokens: usize,
}

/// Counts the tokens of a message, by the same chat template.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "anthropic",
    request_body = CountTokensRequest, responses(
    (status = 200, description = "The tokens", body = TokenCount)
))]
pub(super) async fn count_tokens(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(request): JsonBody<CountTokensRequest>,
) -> Result<Json<TokenCount>, ApiError> {
    let Translated { body, names } = request.translate()?;
    let prepared = prepare(&state, &peer, &mut admission, body).await;
    let chat = prepared.map_err(|error| names.rename(error))?;
    let input_tokens = chat.prompts.first().map_or(0, |choice| choice.prompt.len());
    Ok(Json(TokenCount { input_tokens }))
}
