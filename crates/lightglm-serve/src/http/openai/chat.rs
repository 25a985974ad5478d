//! `POST /v1/chat/completions`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use lightglm_text::Thinking;
use serde::Deserialize;
use serde_json::Value;

use super::chat_reply::{ChatCompletion, ChatReply, collect};
use super::loosen::tell;
use super::messages::{ChatMessage, is_continued, template_messages, text_bytes};
use super::response_format::{Formatted, bytes_to_work_on, choice_prompts};
use super::sampling::{Sampled, Sampling};
use super::thinking::WithThinking;
use super::tools::{Calls, Tool, ToolChoice, checked, plan};
use super::whole::{Whole, whole};
use crate::constraint::Constraint;
use crate::http::admission::Admission;
use crate::http::body::json_body::{FromJson, JsonBody, read};
use crate::http::choice_stream::{ChoicePrompt, ChoiceStream};
use crate::http::error::ApiError;
use crate::http::media::{Placed, encode_media};
use crate::http::models::ModelState;
use crate::http::peer::Peer;
use crate::http::sse;
use crate::http::state::AppState;

/// A conversation to continue.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct ChatCompletionRequest {
    /// The conversation.
    #[schema(min_items = 1)]
    messages: Vec<ChatMessage>,
    /// Whether the tokens' log-probabilities are reported.
    logprobs: Option<bool>,
    /// Alternatives per token; needs `logprobs`.
    #[schema(minimum = 0, value_type = Option<u64>)]
    top_logprobs: Option<Whole>,
    /// What the model may call.
    tools: Option<Vec<Tool>>,
    /// Whether and which tools are called.
    tool_choice: Option<ToolChoice>,
    /// Whether a reply may have several calls; true where it is absent.
    parallel_tool_calls: Option<bool>,
    /// Whether the reply goes on with the last message, which is an assistant's.
    continue_final_message: Option<bool>,
    /// Whether the reply is a turn of its own: true makes it one behind an assistant's last message, which
    /// is continued otherwise.
    add_generation_prompt: Option<bool>,
}

/// A chat with all of its fields: what every dialect's request becomes.
pub(in crate::http) type ChatBody = Sampled<Formatted<WithThinking<ChatCompletionRequest>>>;

impl FromJson for ChatCompletionRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        read(value)
    }
}

/// Continues a conversation.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai",
    request_body = ChatCompletionRequest, responses(
    (status = 200, description = "The reply", body = ChatCompletion)
))]
pub(in crate::http) async fn chat(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(body): JsonBody<ChatBody>,
) -> Result<Response, ApiError> {
    let chat = prepare(&state, &peer, &mut admission, body).await?;
    let (streams, include_usage) = (chat.sampling.shared.stream, chat.sampling.include_usage);
    let not_enforced = chat.not_enforced.clone();
    let (stream, reply) = chat.start(admission)?;
    let mut response = match streams {
        true => sse::stream(stream, reply.stream(include_usage == Some(true))),
        false => Json(collect(reply, stream).await?).into_response(),
    };
    tell(&mut response, &not_enforced);
    Ok(response)
}

/// A chat that was checked and whose prompt is tokens.
pub(in crate::http) struct PreparedChat {
    state: ModelState,
    pub(in crate::http) sampling: Sampling,
    pub(in crate::http) prompts: Vec<ChoicePrompt>,
    /// What of its schemas is not enforced.
    pub(in crate::http) not_enforced: Vec<String>,
    logprobs: bool,
    calls: Calls,
    thinking: Thinking,
}

impl PreparedChat {
    /// Submits it.
    ///
    /// # Errors
    /// [`ApiError::Rejected`].
    pub(in crate::http) fn start(
        self,
        admission: Admission,
    ) -> Result<(ChoiceStream, ChatReply), ApiError> {
        let state = &self.state;
        let Sampling { shared, n, model, .. } = self.sampling;
        let stream = ChoiceStream::start(state, admission, &shared, self.prompts)?;
        let reply = ChatReply::new(state, model, n, self.logprobs, &self.calls, self.thinking);
        Ok((stream, reply))
    }
}

/// Checks a chat and makes tokens of it.
///
/// # Errors
/// [`ApiError::Field`] in OpenAI's names, and those of [`ModelState::of`] and [`AppState::work_on_text`].
pub(in crate::http) async fn prepare(
    state: &AppState,
    peer: &Peer,
    admission: &mut Admission,
    Sampled { mut sampling, request }: ChatBody,
) -> Result<PreparedChat, ApiError> {
    let Formatted { format, request } = request;
    let WithThinking { thinking: thoughts, request } = request;
    let limits = &state.config.limits;
    let tools = checked(request.tools, limits)?;
    let mut plan = plan(tools, request.tool_choice, request.parallel_tool_calls)?;
    let is_forced = plan.constraint.is_some();
    let mut demand = format.demand(plan.constraint.take(), limits)?;
    if !is_forced && plan.may_call() {
        demand = demand.map(|demand| demand.or_calls(&plan)).transpose()?;
    }
    let calls = plan.calls(demand.is_some());
    let mut not_enforced = plan.not_enforced;
    if let Some(demand) = &demand {
        sampling.constrained_by(demand.param)?;
        not_enforced.extend_from_slice(demand.not_enforced());
    }
    let state = ModelState::of(state, peer, admission, sampling.model()).await?;
    let default_max = state.model.sampling.max_tokens;
    let mut sampling = sampling.checked(&state, peer, "messages", default_max)?;
    let top = whole("top_logprobs", request.top_logprobs, 0, limits.logprobs)?;
    let logprobs = request.logprobs.unwrap_or(false);
    if top.is_some_and(|top| top > 0) && !logprobs {
        return Err(ApiError::field("top_logprobs", "it needs logprobs to be true"));
    }
    sampling.shared.params.logprobs = logprobs.then_some(top.unwrap_or(0));
    let continues = is_continued(
        &request.messages,
        request.continue_final_message,
        request.add_generation_prompt,
    )?;
    let (messages, pending) = template_messages(request.messages, limits)?;

    let n = sampling.n;
    let bytes = text_bytes(&messages) + plan.tools.bytes + thoughts.bytes();
    let bytes = bytes_to_work_on(demand.as_ref(), bytes);
    let tool_values = plan.tools.values;
    let placing = encode_media(&state, admission, pending).await?;
    sampling.shared.cache_salt = placing.salt(&sampling.shared.cache_salt);
    let own = state.clone();
    let work = move || {
        let text = &*own.model.text;
        let thoughts = thoughts.checked(&own.config.limits, text, &tool_values)?;
        let prompt = match continues {
            true => text.encode_continued(&messages, &tool_values, &thoughts.variables),
            false => text.encode_chat_with(&messages, &tool_values, &thoughts.variables),
        };
        let prompt = prompt.map_err(|error| ApiError::text("messages", &error))?;
        let opening = own.model.opening(!tool_values.is_empty());
        let thinking = text.thinking(&prompt);
        // What is constrained is so from its first token on: it thinks nothing, unless the prompt has begun to,
        // and its opening, which a call does not have, is said for it.
        let constraint = demand.as_ref().map(|demand| &demand.constraint);
        let (prompt, thinking, opening) = match (constraint, thinking) {
            _ if continues => (prompt, Thinking::Never, String::new()),
            (None, thinking) => (prompt, thinking, opening),
            (Some(_), Thinking::Opened) => (prompt, thinking, String::new()),
            (Some(Constraint::ToolCall { .. }), _) => (prompt, Thinking::Never, String::new()),
            (Some(Constraint::ToolCallOrJson { .. }), _) => (prompt, Thinking::Never, opening),
            (Some(_), _) => {
                let opened = text.open_reply(prompt, &opening);
                let opened = opened.map_err(|error| ApiError::text("messages", &error))?;
                (opened, Thinking::Never, String::new())
            }
        };
        if let Some(demand) = &mut demand {
            demand.open_with(&opening);
        }
        let Placed { tokens, media } = placing.place(prompt, "messages")?;
        let mut choices = choice_prompts(&own, demand.as_ref(), vec![tokens], n)?;
        choices.iter_mut().for_each(|choice| choice.media = media.clone());
        thoughts.control(text, thinking, &mut choices)?;
        Ok((choices, thinking, opening))
    };
    let (prompts, thinking, opening) = state.work_on_text(admission, bytes, work).await?;
    sampling.shared.opening = opening;

    Ok(PreparedChat { state, sampling, prompts, not_enforced, logprobs, calls, thinking })
}
