//! `POST /answer`: a question about a text.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use lightglm_core::MediaRuns;
use lightglm_text::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::admission::Admission;
use super::body::json_body::{FromJson, JsonBody, read};
use super::choice_stream::{ChoiceEvent, ChoicePrompt, ChoiceStream};
use super::error::ApiError;
use super::models::ModelState;
use super::openai::sampling::Sampled;
use super::openai::usage::Usage;
use super::peer::Peer;
use super::sse::{self, Encode, EventData};
use super::state::AppState;

/// A question, and the text that answers it.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct AnswerRequest {
    /// The question.
    #[schema(min_length = 1)]
    question: String,
    /// The text that it is about.
    context: Option<String>,
}

/// An answer, or a part of one that is streamed.
#[derive(Serialize, Default, utoipa::ToSchema)]
pub(super) struct AnswerResponse {
    /// The answer, or more of it.
    answer: String,
    /// `stop` or `length`; absent while more follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'static str>,
    /// What it took; absent while more follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

impl FromJson for AnswerRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        let request: Self = read(value)?;
        if request.question.is_empty() {
            return Err(ApiError::field("question", "it is empty"));
        }
        Ok(request)
    }
}

impl AnswerRequest {
    fn prompt(self) -> String {
        match self.context.filter(|context| !context.is_empty()) {
            Some(context) => {
                format!("{context}\n\nAnswer from the text above. {}", self.question)
            }
            None => self.question,
        }
    }
}

/// Answers a question, from a text where one is given.
#[utoipa::path(post, path = "/answer", tag = "text", request_body = AnswerRequest, responses(
    (status = 200, description = "The answer", body = AnswerResponse)
))]
pub(super) async fn answer(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(Sampled { sampling, request }): JsonBody<Sampled<AnswerRequest>>,
) -> Result<Response, ApiError> {
    // An answer is to be the same every time, unless somebody asks for variety.
    let sampling = sampling.greedy_unless_said();
    let state = ModelState::of(&state, &peer, &mut admission, sampling.model()).await?;
    let default_max = state.model.sampling.max_tokens;
    let mut sampling = sampling.checked(&state, &peer, "question", default_max)?;
    if sampling.n != 1 {
        return Err(ApiError::field("n", "a question has one answer"));
    }
    let text = request.prompt();
    let bytes = text.len();
    let own = state.clone();
    let encode = move || {
        let prompt = own.model.text.encode_chat(&[Message::user(text)], &[]);
        prompt.map_err(|error| ApiError::text("question", &error))
    };
    let prompt = state.work_on_text(&mut admission, bytes, encode).await?;
    sampling.shared.opening = state.model.opening(false);
    let prompts = vec![ChoicePrompt {
        prompt,
        media: MediaRuns::default(),
        seed_offset: 0,
        processors: Vec::new(),
        prompt_logprobs: None,
    }];
    let mut choices = ChoiceStream::start(&state, admission, &sampling.shared, prompts)?;
    if sampling.shared.stream {
        let tells_usage = sampling.include_usage != Some(false);
        return Ok(sse::stream(choices, AnswerStream { tells_usage }));
    }
    let mut response = AnswerResponse::default();
    while let Some(event) = choices.next().await {
        let part = part(event?.1);
        response.answer.push_str(&part.answer);
        response.finish_reason = part.finish_reason.or(response.finish_reason);
        response.usage = part.usage.or(response.usage);
    }
    Ok(Json(response).into_response())
}

fn part(event: ChoiceEvent) -> AnswerResponse {
    match event {
        ChoiceEvent::Prompt(_) => AnswerResponse::default(),
        ChoiceEvent::Step(step) => AnswerResponse { answer: step.text, ..Default::default() },
        ChoiceEvent::Finished { reason, usage: used } => {
            let mut usage = Usage::default();
            usage.add(used, true);
            let finish_reason = Some(reason.as_str());
            AnswerResponse { answer: String::new(), finish_reason, usage: Some(usage) }
        }
    }
}

/// The answer in parts.
struct AnswerStream {
    tells_usage: bool,
}

impl Encode for AnswerStream {
    fn event(&mut self, _: usize, event: ChoiceEvent, out: &mut EventData) {
        let mut part = part(event);
        part.usage = part.usage.filter(|_| self.tells_usage);
        if !part.answer.is_empty() || part.finish_reason.is_some() {
            out.push(&part);
        }
    }

    fn end(&mut self, _: &mut EventData) {}
}
