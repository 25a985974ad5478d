//! What is sent, and what of an answer is read.

use lightglm_generation::SamplingParams;
use lightglm_train::data::Conversation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ServerTeacherOptions;
use crate::training::generations::TeacherAnswer;
use crate::training::generations::messages_of;
use crate::training::token_logprobs::TokenLogprobs;

/// The body of a request for one answer.
pub(super) fn request(
    options: &ServerTeacherOptions,
    conversation: &Conversation,
    sampling: &SamplingParams,
    logprobs: bool,
) -> Value {
    let mut messages = messages_of(conversation);
    for message in messages.as_array_mut().into_iter().flatten() {
        // The rows' own mark.
        message.as_object_mut().map(|message| message.shift_remove("weight"));
    }
    let mut body = json!({
        "model": options.model,
        "messages": messages,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stream": false,
    });
    if let Some(tools) = conversation.extra.get("tools").filter(|tools| !tools.is_null()) {
        body["tools"] = tools.clone();
    }
    if !sampling.stop.is_empty() {
        body["stop"] = sampling.stop.clone().into();
    }
    if logprobs {
        body["logprobs"] = true.into();
        body["top_logprobs"] = options.top_logprobs.into();
    }
    body
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Token>>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
    bytes: Option<Vec<u8>>,
    logprob: Option<f32>,
    #[serde(default)]
    top_logprobs: Vec<Token>,
}

/// The answer in the body of a completion.
///
/// # Errors
/// What is wrong with it.
pub(super) fn answer(body: &[u8]) -> Result<TeacherAnswer, String> {
    let completion: Completion = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let choice = completion.choices.into_iter().next().ok_or("`choices` is empty")?;
    let logprobs = choice.logprobs.and_then(|logprobs| logprobs.content);
    let logprobs = logprobs
        .filter(|tokens| !tokens.is_empty())
        .and_then(|tokens| tokens.into_iter().map(token).collect::<Option<Vec<_>>>());
    Ok(TeacherAnswer {
        text: choice.message.content.unwrap_or_default(),
        reasoning: choice.message.reasoning_content,
        tool_calls: choice.message.tool_calls.unwrap_or_default(),
        is_cut: !matches!(choice.finish_reason.as_deref(), Some("stop" | "tool_calls")),
        logprobs,
    })
}

/// A token and its alternatives; `None` where its own log-probability is missing.
fn token(token: Token) -> Option<TokenLogprobs> {
    let logprob = token.logprob?;
    let bytes = bytes_of(token.token, token.bytes);
    let alternative = |token: Token| Some((bytes_of(token.token, token.bytes), token.logprob?));
    let top = token.top_logprobs.into_iter().filter_map(alternative).collect();
    Some(TokenLogprobs { bytes, logprob, top })
}

fn bytes_of(token: String, bytes: Option<Vec<u8>>) -> Vec<u8> {
    bytes.unwrap_or_else(|| token.into_bytes())
}
