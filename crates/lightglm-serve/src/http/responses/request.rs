//! The request of a response, and the chat that it is.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::input::translate_input;
use super::object::Echo;
use super::tools::translate_tools;
use crate::http::body::json_body::{FromJson, read};
use crate::http::dialect::{
    Refused, Translated, Translation, list_at, read_at, refuse, refuse_foreign,
};
use crate::http::error::ApiError;
use crate::http::openai::unmet::refuse_unmet;
use crate::http::openai::whole::Whole;
use crate::http::state::AppState;

const NOT_STORED: &str = "nothing is stored here: send the whole conversation as input";
const NOT_DONE: &str = "it is not supported";

/// What is not done here.
const REFUSED: [Refused; 16] = [
    ("previous_response_id", NOT_STORED, None),
    ("conversation", NOT_STORED, None),
    ("store", "nothing is stored here: leave it out, or false", None),
    ("background", "a response is answered while its client waits", None),
    ("background_options", NOT_DONE, None),
    ("prompt", "no prompts are stored here: use instructions and input", None),
    ("truncation", "nothing is cut off silently: it must be disabled", Some("disabled")),
    ("context_management", NOT_DONE, None),
    ("moderation", NOT_DONE, None),
    ("modalities", NOT_DONE, None),
    ("image", NOT_DONE, None),
    ("messages", "it is called input here", None),
    ("max_tokens", "it is called max_output_tokens here", None),
    ("max_completion_tokens", "it is called max_output_tokens here", None),
    ("response_format", "it is called text.format here", None),
    ("reasoning_effort", "it is called reasoning.effort here", None),
];

/// What of `include` can be had.
const LOGPROBS: &str = "message.output_text.logprobs";
/// What of `include` asks for nothing, for thoughts come in the clear.
const ENCRYPTED: &str = "reasoning.encrypted_content";

/// A response to be made.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct ResponsesRequest {
    /// A model or an adapter; the base model where it is absent.
    model: Option<String>,
    /// A text of the user's, or the conversation as a list of items: messages, calls and what they returned.
    #[schema(value_type = Object)]
    input: Value,
    /// What the model is told before the conversation.
    instructions: Option<String>,
    /// Functions that the model may call.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Value>,
    /// `none`, `auto`, `required`, a function, or `allowed_tools`.
    #[schema(value_type = Option<Object>)]
    tool_choice: Option<Value>,
    /// Whether a response may have several calls; true where it is absent.
    parallel_tool_calls: Option<bool>,
    /// What the text must look like.
    #[schema(value_type = Option<Object>)]
    text: Option<Value>,
    /// How long the model thinks.
    #[schema(value_type = Option<Object>)]
    reasoning: Option<Value>,
    /// Tokens of the response at most, thoughts included.
    #[schema(minimum = 1, value_type = Option<u64>)]
    max_output_tokens: Option<Whole>,
    /// Divides the logits; 0 takes the most likely token.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Keeps the most likely tokens whose probabilities sum to it.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Alternatives per token, where `include` asks for log-probabilities.
    #[schema(minimum = 0, value_type = Option<u64>)]
    top_logprobs: Option<Whole>,
    /// `message.output_text.logprobs` for log-probabilities.
    include: Option<Vec<String>>,
    /// Whether the response comes as server-sent events.
    stream: Option<bool>,
    /// About the events.
    #[schema(value_type = Option<Object>)]
    stream_options: Option<Value>,
    /// Whose request it is; without API keys, users share the server fairly.
    user: Option<String>,
    /// The same, by its newer name.
    safety_identifier: Option<String>,
    /// Comes back as it is.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// `text`.
#[derive(Deserialize)]
struct TextFields {
    format: Option<Value>,
    verbosity: Option<String>,
}

/// `text.format`.
#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    schema: Option<Map<String, Value>>,
    strict: Option<bool>,
}

/// `reasoning`.
#[derive(Deserialize)]
struct Reasoning {
    effort: Option<String>,
    summary: Option<String>,
    generate_summary: Option<String>,
}

impl FromJson for ResponsesRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        refuse("", value, &REFUSED)?;
        let own = ["temperature", "top_p", "top_logprobs", "tool_choice", "parallel_tool_calls"];
        refuse_foreign(value, &own)?;
        refuse_unmet(value)?;
        read(value)
    }
}

impl ResponsesRequest {
    /// The chat that it is, and what the response repeats of it.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub(super) fn translate(self, state: &AppState) -> Result<(Translated, Echo), ApiError> {
        let mut chat = Translation::default();
        let echo = Echo::of(&self, state);
        chat.name("messages", "input");
        if let Some(instructions) = &self.instructions {
            let message = json!({"role": "system", "content": instructions});
            let place = chat.message("instructions", message);
            chat.name(format!("{place}.content"), "instructions");
        }
        translate_input(&self.input, &mut chat)?;
        // A last message of the assistant's is a turn that is over.
        chat.set("add_generation_prompt", "input", true);
        let tools = self.tools.unwrap_or_default();
        let choice = self.tool_choice.unwrap_or_default();
        translate_tools(&tools, &choice, &mut chat)?;
        chat.set("parallel_tool_calls", "parallel_tool_calls", self.parallel_tool_calls);
        if let Some(text) = self.text.filter(|text| !text.is_null()) {
            translate_text(&text, &mut chat)?;
        }
        if let Some(reasoning) = self.reasoning.filter(|reasoning| !reasoning.is_null()) {
            translate_reasoning(&reasoning, &mut chat)?;
        }
        let most = self.max_output_tokens.map(|Whole(tokens)| tokens);
        if most.is_some_and(|most| most < 1) {
            return Err(ApiError::field("max_output_tokens", "it must be at least 1"));
        }
        chat.set("max_tokens", "max_output_tokens", most.and_then(|most| u64::try_from(most).ok()));
        chat.set("temperature", "temperature", self.temperature);
        chat.set("top_p", "top_p", self.top_p);
        chat.set("model", "model", self.model);
        chat.set("stream", "stream", self.stream);
        match self.user {
            Some(user) => chat.set("user", "user", user),
            None => chat.set("user", "safety_identifier", self.safety_identifier),
        }
        translate_logprobs(self.include.as_deref(), self.top_logprobs, &mut chat)?;
        if let Some(options) = self.stream_options.filter(|options| !options.is_null()) {
            if self.stream != Some(true) {
                return Err(ApiError::field("stream_options", "it needs stream to be true"));
            }
            let padding = [
                ("include_obfuscation", "events have no padding here", None),
                ("prewarm", NOT_DONE, None),
            ];
            refuse("stream_options.", &options, &padding)?;
        }
        Ok((chat.finish()?, echo))
    }
}

impl Echo {
    /// What a response repeats of its request.
    fn of(request: &ResponsesRequest, state: &AppState) -> Self {
        let or = |value: &Option<Value>, default: Value| {
            value.clone().filter(|value| !value.is_null()).unwrap_or(default)
        };
        let text = or(&request.text, json!({}));
        let format = text.get("format").cloned().filter(|format| !format.is_null());
        let reasoning = or(&request.reasoning, json!({}));
        Self {
            id: state.new_id("resp_"),
            instructions: request.instructions.clone(),
            metadata: request.metadata.clone().unwrap_or_default(),
            max_output_tokens: request
                .max_output_tokens
                .and_then(|most| u64::try_from(most.0).ok()),
            parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
            temperature: 1.0,
            top_p: 1.0,
            top_logprobs: request
                .top_logprobs
                .and_then(|top| u64::try_from(top.0).ok())
                .unwrap_or(0),
            tool_choice: or(&request.tool_choice, json!("auto")),
            tools: or(&request.tools, json!([])),
            text: json!({"format": format.unwrap_or_else(|| json!({"type": "text"}))}),
            reasoning: json!({"effort": reasoning["effort"], "summary": null}),
            user: request.user.clone(),
            safety_identifier: request.safety_identifier.clone(),
            has_logprobs: request.include.iter().flatten().any(|include| include == LOGPROBS),
        }
    }
}

fn translate_text(text: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    let text: TextFields = read_at("text", text)?;
    if text.verbosity.is_some_and(|verbosity| verbosity != "medium") {
        return Err(ApiError::field("text.verbosity", "the model has no such setting"));
    }
    let Some(format) = text.format.filter(|format| !format.is_null()) else { return Ok(()) };
    let format: Format = read_at("text.format", &format)?;
    let own = match format.kind.as_str() {
        "text" | "json_object" if format.schema.is_some() => {
            return Err(ApiError::field("text.format.schema", "it needs the type json_schema"));
        }
        "text" | "json_object" => json!({"type": format.kind}),
        "json_schema" => {
            let Some(schema) = format.schema else {
                return Err(ApiError::field("text.format.schema", "it is required"));
            };
            let named = json!({"name": format.name, "schema": schema, "strict": format.strict});
            json!({"type": "json_schema", "json_schema": named})
        }
        _ => {
            let reason = "it must be text, json_object or json_schema";
            return Err(ApiError::field("text.format.type", reason));
        }
    };
    chat.set("response_format", "text.format", own);
    chat.name("response_format.json_schema", "text.format");
    Ok(())
}

fn translate_reasoning(reasoning: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    let reasoning: Reasoning = read_at("reasoning", reasoning)?;
    let summaries =
        [("summary", reasoning.summary), ("generate_summary", reasoning.generate_summary)];
    for (field, summary) in summaries {
        // `auto` is the best that there is: here, none.
        if summary.is_some_and(|summary| summary != "auto") {
            let reason = "thoughts are not summed up here: they come as they are";
            return Err(ApiError::field(format!("reasoning.{field}"), reason));
        }
    }
    chat.set("reasoning_effort", "reasoning.effort", reasoning.effort);
    Ok(())
}

fn translate_logprobs(
    include: Option<&[String]>,
    top: Option<Whole>,
    chat: &mut Translation,
) -> Result<(), ApiError> {
    let include = include.unwrap_or_default();
    let unknown = include.iter().position(|include| ![LOGPROBS, ENCRYPTED].contains(&&**include));
    if let Some(index) = unknown {
        let reason = format!("it must be {LOGPROBS} or {ENCRYPTED}");
        return Err(ApiError::field(format!("include[{index}]"), reason));
    }
    let wanted = include.iter().any(|include| include == LOGPROBS);
    if top.is_some_and(|top| top != Whole(0)) && !wanted {
        return Err(ApiError::field("top_logprobs", format!("it needs {LOGPROBS} in include")));
    }
    let top = top.map(|Whole(top)| i64::try_from(top).unwrap_or(i64::MAX));
    chat.set("top_logprobs", "top_logprobs", top);
    chat.set("logprobs", "include", wanted.then_some(true));
    Ok(())
}

/// Checks that a list is one, where there is one.
///
/// # Errors
/// [`ApiError::Field`].
pub(super) fn optional_list<'a>(at: &str, value: &'a Value) -> Result<&'a [Value], ApiError> {
    if value.is_null() { Ok(&[]) } else { list_at(at, value) }
}
