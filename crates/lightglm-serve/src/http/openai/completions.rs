//! `POST /v1/completions`.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::completion_reply::{Completion, CompletionReply, Echo, collect};
use super::loosen::tell;
use super::response_format::{Formatted, bytes_to_work_on, choice_prompts};
use super::sampling::Sampled;
use super::whole::{Whole, whole};
use crate::http::admission::Admission;
use crate::http::body::json_body::{FromJson, JsonBody, read};
use crate::http::choice_stream::ChoiceStream;
use crate::http::error::ApiError;
use crate::http::models::ModelState;
use crate::http::peer::Peer;
use crate::http::sse;
use crate::http::state::AppState;

/// OpenAI's length of a completion that does not say its own.
const DEFAULT_MAX_TOKENS: usize = 16;

/// A text to continue.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct CompletionRequest {
    /// A text, several, the tokens of one, or those of several.
    prompt: Prompt,
    /// Alternatives per token; also reports the log-probabilities.
    #[schema(minimum = 0, value_type = Option<u64>)]
    logprobs: Option<Whole>,
    /// Whether the answer repeats the prompt before what follows; with `logprobs` its tokens are scored, too, and
    /// `max_tokens` may be 0, for them alone.
    echo: Option<bool>,
    /// Choices to choose from: as many as there are.
    #[schema(minimum = 1, value_type = Option<u64>)]
    best_of: Option<Whole>,
    /// Text after the reply: there is none.
    suffix: Option<String>,
}

/// What is continued.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(
    untagged,
    expecting = "it must be a string, a list of strings, token ids, or a list of them"
)]
enum Prompt {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// The tokens of a text.
    Tokens(Vec<u32>),
    /// The tokens of texts.
    TokenLists(Vec<Vec<u32>>),
}

/// One of the prompts.
enum OnePrompt {
    Text(String),
    Tokens(Vec<u32>),
}

impl Prompt {
    fn split(self) -> Vec<OnePrompt> {
        match self {
            Self::Text(text) => vec![OnePrompt::Text(text)],
            Self::Texts(texts) => texts.into_iter().map(OnePrompt::Text).collect(),
            Self::Tokens(tokens) => vec![OnePrompt::Tokens(tokens)],
            Self::TokenLists(lists) => lists.into_iter().map(OnePrompt::Tokens).collect(),
        }
    }
}

impl OnePrompt {
    /// The tokens, and where it is repeated the text.
    fn encode(
        self,
        state: &ModelState,
        echo: bool,
    ) -> Result<(Vec<u32>, Option<String>), ApiError> {
        let vocab_size = state.model.engine.limits().vocab_size;
        match self {
            Self::Text(text) => {
                let tokens = state.model.text.encode_prompt(&text);
                let tokens = tokens.map_err(|error| ApiError::text("prompt", &error))?;
                Ok((tokens, echo.then_some(text)))
            }
            Self::Tokens(tokens) if !echo => Ok((tokens, None)),
            Self::Tokens(tokens) => {
                let mut detokenizer = state.model.text.detokenizer();
                // Others are refused by the engine, which names them.
                let known = tokens.iter().filter(|token| (**token as usize) < vocab_size);
                let mut text: String = known.filter_map(|token| detokenizer.push(*token)).collect();
                text.extend(detokenizer.finish());
                Ok((tokens, Some(text)))
            }
        }
    }
}

impl FromJson for CompletionRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        read(value)
    }
}

/// Continues texts.
#[utoipa::path(post, path = "/v1/completions", tag = "openai",
    request_body = CompletionRequest, responses(
    (status = 200, description = "The continuations", body = Completion)
))]
pub(in crate::http) async fn completions(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(Sampled { mut sampling, request }): JsonBody<Sampled<Formatted<CompletionRequest>>>,
) -> Result<Response, ApiError> {
    let Formatted { format, request } = request;
    let limits = &state.config.limits;
    let demand = format.demand(None, limits)?;
    let mut not_enforced = Vec::new();
    if let Some(demand) = &demand {
        sampling.constrained_by(demand.param)?;
        not_enforced.extend_from_slice(demand.not_enforced());
    }
    let echo = request.echo == Some(true);
    let echo_alone = echo && sampling.asks_for_nothing();
    let state = ModelState::of(&state, &peer, &mut admission, sampling.model()).await?;
    let mut sampling = sampling.checked(&state, &peer, "prompt", DEFAULT_MAX_TOKENS)?;
    let logprobs = whole("logprobs", request.logprobs, 0, limits.logprobs)?;
    sampling.shared.params.logprobs = logprobs;
    let n = sampling.n;
    if request.best_of.is_some_and(|best_of| best_of.0 != n as i128) {
        return Err(ApiError::field("best_of", "it must be n"));
    }
    if request.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::field("suffix", "it is not supported"));
    }
    let prompts = request.prompt.split();
    let most = state.most_choices();
    if prompts.is_empty() || prompts.len().saturating_mul(n) > most {
        let reason = format!("prompts times n must be 1 to {most}");
        return Err(ApiError::field("prompt", reason));
    }

    let choices = prompts.len() * n;
    let bytes = prompts.iter().map(|prompt| match prompt {
        OnePrompt::Text(text) => text.len(),
        OnePrompt::Tokens(_) => 0,
    });
    let bytes = bytes_to_work_on(demand.as_ref(), bytes.sum());
    let own = state.clone();
    let work = move || {
        let (mut encoded, mut echoes) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let (tokens, text) = prompt.encode(&own, echo)?;
            echoes.extend(text.map(|text| Echo { text, first: tokens.first().copied() }));
            encoded.push(tokens);
        }
        let mut choices = choice_prompts(&own, demand.as_ref(), encoded, n)?;
        for choice in &mut choices {
            choice.prompt_logprobs = logprobs.filter(|_| echo);
        }
        Ok((choices, echoes))
    };
    let (prompts, echoes) = state.work_on_text(&mut admission, bytes, work).await?;

    let stream = ChoiceStream::start(&state, admission, &sampling.shared, prompts)?;
    let reply = CompletionReply::new(&state, sampling.model, choices, n, logprobs.is_some());
    let reply = reply.with_echoes(echoes, echo_alone);
    let mut response = match sampling.shared.stream {
        true => sse::stream(stream, reply.stream(sampling.include_usage == Some(true))),
        false => collect(reply, stream).await?,
    };
    tell(&mut response, &not_enforced);
    Ok(response)
}
