//! The request of a message, and the chat that it is.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::content::translate_messages;
use crate::http::body::json_body::{FromJson, read};
use crate::http::dialect::{
    Refused, Translated, Translation, joined_texts, read_at, refuse, refuse_foreign, text_at,
};
use crate::http::error::ApiError;
use crate::http::openai::unmet::refuse_unmet;
use crate::http::openai::whole::Whole;

const NOT_DONE: &str = "it is not supported";

/// What is not done here.
const REFUSED: [Refused; 7] = [
    ("container", NOT_DONE, None),
    ("mcp_servers", NOT_DONE, None),
    ("context_management", NOT_DONE, None),
    ("output_format", "it is called output_config.format", None),
    ("speed", NOT_DONE, Some("standard")),
    ("stop", "it is called stop_sequences here", None),
    ("fallbacks", NOT_DONE, None),
];

/// A message to be answered.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct MessagesRequest {
    /// Tokens of the answer at most, thoughts included.
    #[schema(minimum = 1, value_type = u64)]
    max_tokens: Whole,
    /// Strings that end the answer; they are not part of it.
    stop_sequences: Option<Vec<String>>,
    /// Divides the logits; 0 takes the most likely token.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Keeps the most likely tokens whose probabilities sum to it.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Keeps so many of the most likely tokens.
    #[schema(minimum = 0, value_type = Option<u64>)]
    top_k: Option<Whole>,
    /// `user_id`: whose request it is; without API keys, users share the server fairly.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Whether the answer comes as server-sent events.
    stream: Option<bool>,
}

/// The prompt of a message, whose tokens are counted.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct CountTokensRequest {
    /// A model or an adapter; the base model where it is absent.
    model: Option<String>,
    /// The conversation; where the last message is the assistant's, the answer goes on with it.
    #[schema(value_type = Vec<Object>)]
    messages: Value,
    /// What the model is told before the conversation: a text, or blocks of text.
    #[schema(value_type = Option<Object>)]
    system: Option<Value>,
    /// Tools that the model may call.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Value>,
    /// `auto`, `any`, `tool` with a name, or `none`.
    #[schema(value_type = Option<Object>)]
    tool_choice: Option<Value>,
    /// Whether the model thinks before it speaks, and how long.
    #[schema(value_type = Option<Object>)]
    thinking: Option<Value>,
    /// `format`, a schema that the answer follows; `effort`, how long the model thinks.
    #[schema(value_type = Option<Object>)]
    output_config: Option<Value>,
}

/// A message with its prompt; read apart, so that errors name fields.
pub(in crate::http) struct FullRequest {
    prompt: CountTokensRequest,
    own: MessagesRequest,
}

/// A tool.
#[derive(Deserialize)]
struct ClientTool {
    #[serde(rename = "type")]
    #[allow(dead_code, reason = "what it may be is checked before; here, that it is a string")]
    kind: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Map<String, Value>,
    strict: Option<bool>,
}

/// How tools are called.
#[derive(Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

/// Whether and how long the model thinks.
#[derive(Deserialize)]
struct ThinkingConfig {
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<Whole>,
}

/// What the answer looks like.
#[derive(Deserialize)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<Value>,
}

impl FromJson for CountTokensRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        refuse("", value, &REFUSED)?;
        let own = [
            "messages",
            "max_tokens",
            "temperature",
            "top_p",
            "top_k",
            "thinking",
            "system",
            "tool_choice",
        ];
        refuse_foreign(value, &own)?;
        refuse_unmet(value)?;
        read(value)
    }
}

impl FromJson for FullRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        let prompt = CountTokensRequest::from_json(value)?;
        Ok(Self { prompt, own: read(value)? })
    }
}

impl FullRequest {
    /// The chat that it is.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub(super) fn translate(self) -> Result<Translated, ApiError> {
        let mut chat = self.prompt.chat()?;
        let own = self.own;
        let Whole(most) = own.max_tokens;
        let Some(most) = u64::try_from(most).ok().filter(|most| *most > 0) else {
            return Err(ApiError::field("max_tokens", "it must be at least 1"));
        };
        chat.set("max_tokens", "max_tokens", most);
        chat.set("stop", "stop_sequences", own.stop_sequences);
        chat.set("temperature", "temperature", own.temperature);
        chat.set("top_p", "top_p", own.top_p);
        let top_k = own.top_k.map(|Whole(top)| i64::try_from(top).unwrap_or(i64::MAX));
        chat.set("top_k", "top_k", top_k);
        chat.set("stream", "stream", own.stream);
        if let Some(metadata) = own.metadata.filter(|metadata| !metadata.is_null()) {
            match &metadata["user_id"] {
                Value::Null => {}
                _ => {
                    let user = text_at("metadata", &metadata, "user_id")?;
                    chat.set("user", "metadata.user_id", user);
                }
            }
        }
        chat.finish()
    }
}

impl CountTokensRequest {
    /// The chat that it is the prompt of.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub(super) fn translate(self) -> Result<Translated, ApiError> {
        self.chat()?.finish()
    }

    fn chat(self) -> Result<Translation, ApiError> {
        let mut chat = Translation::default();
        chat.set("model", "model", self.model);
        if let Some(system) = self.system.filter(|system| !system.is_null()) {
            let text = joined_texts("system", &system, &[("text", "text")])?;
            let place = chat.message("system", json!({"role": "system", "content": text}));
            chat.name(format!("{place}.content"), "system");
        }
        translate_messages(&self.messages, &mut chat)?;
        translate_tools(&self.tools.unwrap_or_default(), &mut chat)?;
        if let Some(choice) = self.tool_choice.filter(|choice| !choice.is_null()) {
            translate_choice(&choice, &mut chat)?;
        }
        if let Some(thinking) = self.thinking.filter(|thinking| !thinking.is_null()) {
            translate_thinking(&thinking, &mut chat)?;
        }
        if let Some(config) = self.output_config.filter(|config| !config.is_null()) {
            translate_output(&config, &mut chat)?;
        }
        Ok(chat)
    }
}

fn translate_tools(tools: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    let tools = match tools {
        Value::Null => &[][..],
        tools => crate::http::dialect::list_at("tools", tools)?,
    };
    let mut own = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        // Tools that the server would run have other fields; they are named by their type.
        if tool["type"].as_str().is_some_and(|kind| kind != "custom") {
            let reason = "there are no tools of the server's here: it must be custom";
            return Err(ApiError::field(format!("{at}.type"), reason));
        }
        let tool: ClientTool = read_at(&at, tool)?;
        let schema = tool.input_schema;
        let mut function = json!({"name": tool.name, "parameters": schema, "strict": tool.strict});
        if let Some(description) = tool.description {
            function["description"] = description.into();
        }
        let place = format!("tools[{index}].function");
        chat.name(place.clone(), at.clone());
        chat.name(format!("{place}.parameters"), format!("{at}.input_schema"));
        own.push(json!({"type": "function", "function": function}));
    }
    chat.set("tools", "tools", if own.is_empty() { Value::Null } else { Value::Array(own) });
    Ok(())
}

fn translate_choice(choice: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    let choice: Choice = read_at("tool_choice", choice)?;
    let own = match (choice.kind.as_str(), choice.name) {
        ("auto", None) => json!("auto"),
        ("any", None) => json!("required"),
        ("none", None) => json!("none"),
        ("tool", Some(name)) => json!({"type": "function", "function": {"name": name}}),
        ("tool", None) => return Err(ApiError::field("tool_choice.name", "it is required")),
        ("auto" | "any" | "none", Some(_)) => {
            return Err(ApiError::field("tool_choice.name", "it needs the type tool"));
        }
        _ => {
            let reason = "it must be auto, any, tool or none";
            return Err(ApiError::field("tool_choice.type", reason));
        }
    };
    chat.set("tool_choice", "tool_choice", own);
    chat.name("tool_choice.function", "tool_choice");
    let parallel = choice.disable_parallel_tool_use.map(|disabled| !disabled);
    chat.set("parallel_tool_calls", "tool_choice.disable_parallel_tool_use", parallel);
    Ok(())
}

fn translate_thinking(thinking: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    let thinking: ThinkingConfig = read_at("thinking", thinking)?;
    let own = match (thinking.kind.as_str(), thinking.budget_tokens) {
        ("enabled", Some(Whole(budget))) => {
            let Ok(budget) = u64::try_from(budget) else {
                return Err(ApiError::field("thinking.budget_tokens", "it must be at least 0"));
            };
            json!({"type": "enabled", "budget_tokens": budget})
        }
        ("enabled" | "disabled", None) => json!({"type": thinking.kind}),
        // As the model likes.
        ("adaptive", None) => Value::Null,
        ("disabled" | "adaptive", Some(_)) => {
            return Err(ApiError::field("thinking.budget_tokens", "it needs the type enabled"));
        }
        _ => {
            let reason = "it must be enabled, disabled or adaptive";
            return Err(ApiError::field("thinking.type", reason));
        }
    };
    chat.set("thinking", "thinking", own);
    Ok(())
}

fn translate_output(config: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    let config: OutputConfig = read_at("output_config", config)?;
    // Anthropic's word for as long as it likes.
    let effort = config.effort.map(|effort| if effort == "max" { "xhigh".into() } else { effort });
    chat.set("reasoning_effort", "output_config.effort", effort);
    let Some(format) = config.format.filter(|format| !format.is_null()) else { return Ok(()) };
    let at = "output_config.format";
    if text_at(at, &format, "type")? != "json_schema" {
        return Err(ApiError::field(format!("{at}.type"), "it must be json_schema"));
    }
    if !format["schema"].is_object() {
        return Err(ApiError::field(format!("{at}.schema"), "it must be a JSON schema"));
    }
    let own = json!({"type": "json_schema", "json_schema": {"schema": format["schema"]}});
    chat.set("response_format", at, own);
    chat.name("response_format.json_schema", at);
    Ok(())
}
