//! `/tokenize` and `/detokenize`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::admission::Admission;
use super::body::json_body::{FromJson, JsonBody, read};
use super::error::ApiError;
use super::media::count_media;
use super::models::ModelState;
use super::openai::messages::{ChatMessage, template_messages};
use super::openai::tools::Tool;
use super::peer::Peer;
use super::state::AppState;

/// A text or a conversation.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct TokenizeRequest {
    /// A model or an adapter; the base model where it is absent.
    model: Option<String>,
    /// The text.
    text: Option<String>,
    /// The conversation, instead of a text.
    #[schema(min_items = 1)]
    messages: Option<Vec<ChatMessage>>,
    /// The tools of the conversation.
    tools: Option<Vec<Tool>>,
    /// Variables of the chat template, by name; one that it does not read is refused.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Map<String, Value>>,
    /// Whether a text gets the tokens that the tokenizer puts in front of every prompt; they are there
    /// by default. A conversation always has them.
    add_special_tokens: Option<bool>,
}

/// Token ids.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct TokenizeResponse {
    /// The ids.
    tokens: Vec<u32>,
    /// How many there are.
    count: usize,
    /// How many fit into the model, prompt and reply together.
    max_model_len: usize,
}

/// Token ids.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct DetokenizeRequest {
    /// A model or an adapter; the base model where it is absent.
    model: Option<String>,
    /// The ids.
    #[schema(minimum = 0)]
    tokens: Vec<u32>,
}

/// A text.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct DetokenizeResponse {
    /// The text; control tokens say nothing.
    text: String,
}

impl FromJson for TokenizeRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        read(value)
    }
}

impl FromJson for DetokenizeRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        read(value)
    }
}

/// A text's tokens.
#[utoipa::path(post, path = "/tokenize", tag = "text", request_body = TokenizeRequest, responses(
    (status = 200, description = "The tokens", body = TokenizeResponse)
))]
pub(super) async fn tokenize(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(request): JsonBody<TokenizeRequest>,
) -> Result<Json<TokenizeResponse>, ApiError> {
    let state = ModelState::of(&state, &peer, &mut admission, request.model.as_deref()).await?;
    let own = state.clone();
    let tokens = match (request.text, request.messages) {
        (Some(_), None) if request.tools.is_some() => {
            return Err(ApiError::field("tools", "it needs messages"));
        }
        (Some(_), None) if request.chat_template_kwargs.is_some() => {
            return Err(ApiError::field("chat_template_kwargs", "it needs messages"));
        }
        (Some(text), None) => {
            let bytes = text.len();
            let special = request.add_special_tokens.unwrap_or(true);
            let encode = move || {
                let encoder = &own.model.text;
                let tokens = match special {
                    true => encoder.encode_prompt(&text),
                    false => encoder.encode(&text),
                };
                tokens.map_err(|error| ApiError::text("text", &error))
            };
            state.work_on_text(&mut admission, bytes, encode).await?
        }
        (None, Some(messages)) => {
            let limits = &state.config.limits;
            let (messages, pending) = template_messages(messages, limits)?;
            let counted = count_media(&state, &mut admission, pending).await?;
            let tools = super::openai::tools::checked(request.tools, limits)?;
            let bytes = super::openai::messages::text_bytes(&messages) + tools.bytes;
            let variables = request.chat_template_kwargs.unwrap_or_default();
            let encode = move || {
                let tokens = own.model.text.encode_chat_with(&messages, &tools.values, &variables);
                let tokens = tokens.map_err(|error| ApiError::text("messages", &error))?;
                counted.expand(tokens)
            };
            state.work_on_text(&mut admission, bytes, encode).await?
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::field("messages", "it excludes text"));
        }
        (None, None) => return Err(ApiError::field("text", "it or messages is required")),
    };
    let max_model_len = state.model.engine.limits().max_positions;
    Ok(Json(TokenizeResponse { count: tokens.len(), tokens, max_model_len }))
}

/// The text of tokens.
#[utoipa::path(post, path = "/detokenize", tag = "text", request_body = DetokenizeRequest, responses(
    (status = 200, description = "The text", body = DetokenizeResponse)
))]
pub(super) async fn detokenize(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(request): JsonBody<DetokenizeRequest>,
) -> Result<Json<DetokenizeResponse>, ApiError> {
    let state = ModelState::of(&state, &peer, &mut admission, request.model.as_deref()).await?;
    let vocab_size = state.model.engine.limits().vocab_size;
    let unknown = request.tokens.iter().position(|token| *token as usize >= vocab_size);
    if let Some(at) = unknown {
        let reason = format!("it must be below {vocab_size}");
        return Err(ApiError::field(format!("tokens[{at}]"), reason));
    }
    // About four bytes a token.
    let bytes = request.tokens.len() * 4;
    let own = state.clone();
    let decode = move || Ok(own.model.text_of(&request.tokens));
    let text = state.work_on_text(&mut admission, bytes, decode).await?;
    Ok(Json(DetokenizeResponse { text }))
}
