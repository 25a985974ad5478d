//! OpenAI's Responses API, without a store: every request brings all that it is about.

mod input;
mod object;
mod request;
mod stream;
mod tools;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use self::object::ResponseObject;
use self::request::ResponsesRequest;
use self::stream::ResponseEvents;
use super::admission::Admission;
use super::body::json_body::JsonBody;
use super::dialect::collect;
use super::error::ApiError;
use super::openai::chat::prepare;
use super::openai::loosen::tell;
use super::peer::Peer;
use super::sse;
use super::state::AppState;

/// Answers, by OpenAI's newer API.
#[utoipa::path(post, path = "/v1/responses", tag = "openai",
    request_body = ResponsesRequest, responses(
    (status = 200, description = "The response", body = ResponseObject)
))]
pub(super) async fn create(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(request): JsonBody<ResponsesRequest>,
) -> Result<Response, ApiError> {
    let (translated, mut echo) = request.translate(&state)?;
    let names = translated.names;
    let rename = |error| names.rename(error);
    let prepared = prepare(&state, &peer, &mut admission, translated.body).await;
    let chat = prepared.map_err(rename)?;
    let streams = chat.sampling.shared.stream;
    let not_enforced = chat.not_enforced.clone();
    echo.sampled(&chat.sampling.shared.params);
    let (choices, reply) = chat.start(admission).map_err(rename)?;
    let events = ResponseEvents::new(reply, echo);
    let mut response = match streams {
        true => sse::stream(choices, events),
        false => Json(collect(choices, events).await?.into_response()).into_response(),
    };
    tell(&mut response, &not_enforced);
    Ok(response)
}

/// Nothing is stored, so there is no response to come back for.
pub(super) async fn stored() -> ApiError {
    ApiError::NotStored
}
