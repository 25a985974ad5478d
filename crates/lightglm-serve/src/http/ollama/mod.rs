//! Ollama's API, for tools that only speak it: chats, completions by the chat template, and the list of models.

mod messages;
mod models;
mod options;
mod reply;
pub(super) mod request;
mod time;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

pub(super) use self::models::{
    __path_running, __path_show, __path_tags, __path_version, running, show, tags, version,
};
use self::reply::{OllamaEvents, OllamaReply, loaded};
use self::request::{OllamaChatRequest, OllamaGenerateRequest, Prompted, WithFields};
use super::admission::Admission;
use super::body::json_body::JsonBody;
use super::dialect::collect;
use super::error::ApiError;
use super::models::ModelState;
use super::openai::chat::prepare;
use super::openai::loosen::tell;
use super::peer::Peer;
use super::sse;
use super::state::AppState;

/// Where a reply's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// `message.content`.
    Chat,
    /// `response`.
    Generate,
}

/// Continues a conversation, by Ollama's API.
#[utoipa::path(post, path = "/api/chat", tag = "ollama",
    request_body = OllamaChatRequest, responses(
    (status = 200, description = "The reply, in lines unless `stream` is false", body = OllamaReply)
))]
pub(super) async fn chat(
    State(state): State<AppState>,
    peer: Peer,
    admission: Admission,
    JsonBody(request): JsonBody<WithFields<OllamaChatRequest>>,
) -> Result<Response, ApiError> {
    let prompted = request.translate(&state, &peer)?;
    respond(state, peer, admission, prompted, Route::Chat).await
}

/// Answers a prompt, by Ollama's API.
#[utoipa::path(post, path = "/api/generate", tag = "ollama",
    request_body = OllamaGenerateRequest, responses(
    (status = 200, description = "The reply, in lines unless `stream` is false", body = OllamaReply)
))]
pub(super) async fn generate(
    State(state): State<AppState>,
    peer: Peer,
    admission: Admission,
    JsonBody(request): JsonBody<WithFields<OllamaGenerateRequest>>,
) -> Result<Response, ApiError> {
    let prompted = request.translate(&state, &peer)?;
    respond(state, peer, admission, prompted, Route::Generate).await
}

async fn respond(
    state: AppState,
    peer: Peer,
    mut admission: Admission,
    prompted: Prompted,
    route: Route,
) -> Result<Response, ApiError> {
    let translated = match prompted {
        Prompted::Chat(translated) => *translated,
        // Nothing is asked: the client wants the model to be there, or to leave.
        Prompted::Load { model, unload: true } => {
            state.library.unload(peer.named(&state, Some(&model))?.model).await;
            return Ok(Json(loaded(model, route, true)).into_response());
        }
        Prompted::Load { model, unload } => {
            ModelState::of(&state, &peer, &mut admission, Some(&model)).await?;
            return Ok(Json(loaded(model, route, unload)).into_response());
        }
    };
    let names = translated.names;
    let rename = |error| names.rename(error);
    let prepared = prepare(&state, &peer, &mut admission, translated.body).await;
    let mut chat = prepared.map_err(rename)?;
    let streams = chat.sampling.shared.stream;
    // The reply says how long its parts took, so its events are heard when they happen.
    chat.sampling.shared.stream = true;
    let not_enforced = chat.not_enforced.clone();
    let (choices, reply) = chat.start(admission).map_err(rename)?;
    let events = OllamaEvents::new(reply, route);
    let mut response = match streams {
        true => sse::lines(choices, events),
        false => Json(collect(choices, events.whole()).await?.into_reply()).into_response(),
    };
    tell(&mut response, &not_enforced);
    Ok(response)
}
