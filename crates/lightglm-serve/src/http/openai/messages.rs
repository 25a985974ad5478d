//! Messages: OpenAI's, and what a chat template makes of them.

use lightglm_text::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use super::tools::LONGEST_NAME;
use crate::http::config::HttpLimits;
use crate::http::error::ApiError;
use crate::http::media::{ImageUrl, InputAudio, PendingMedia, audio_of, image_of};

/// A message of a conversation.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct ChatMessage {
    /// Who speaks.
    role: Role,
    /// What is said; an assistant's and a tool's may be null.
    content: Option<Content>,
    /// An assistant's text where it refused.
    refusal: Option<String>,
    /// An assistant's calls.
    tool_calls: Option<Vec<MessageToolCall>>,
    /// What an assistant thought, for templates that keep it.
    reasoning_content: Option<String>,
    /// The same, by its newer name.
    reasoning: Option<String>,
    /// Which call a tool answers.
    tool_call_id: Option<String>,
    /// The speaker's name, for templates that have a place for it.
    name: Option<String>,
    /// Whether the reply goes on with this message, which is an assistant's and the last.
    prefix: Option<bool>,
    /// The same, by another server's name.
    partial: Option<bool>,
}

/// Who speaks.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// Instructions.
    System,
    /// Instructions, by their newer name.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// What a tool returned.
    Tool,
}

/// What is said.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "it must be a string or a list of text parts")]
enum Content {
    /// A text.
    Text(String),
    /// Parts of a text.
    Parts(Vec<Part>),
}

/// A part of a message: a text, or for a model that takes it a picture or a recording.
#[derive(Deserialize, utoipa::ToSchema)]
struct Part {
    /// Its kind.
    #[serde(rename = "type")]
    #[schema(value_type = PartType)]
    kind: String,
    /// The text.
    text: Option<String>,
    /// The text of a refusal.
    refusal: Option<String>,
    /// A picture.
    image_url: Option<ImageUrl>,
    /// A recording.
    input_audio: Option<InputAudio>,
}

/// The kinds of parts that are read.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "names the kinds in the OpenAPI document")]
enum PartType {
    /// Text.
    Text,
    /// Text, as the Responses API names what a user says.
    InputText,
    /// Text, as it names what a model says.
    OutputText,
    /// What an assistant said instead of an answer.
    Refusal,
    /// A picture.
    ImageUrl,
    /// A recording.
    InputAudio,
}

/// A call that an assistant made.
#[derive(Deserialize, utoipa::ToSchema)]
struct MessageToolCall {
    /// Its id.
    id: Option<String>,
    /// `function`.
    #[serde(rename = "type")]
    #[allow(dead_code, reason = "there is only one kind")]
    kind: Option<String>,
    /// The function.
    function: MessageFunction,
}

/// A function and its arguments.
#[derive(Deserialize, utoipa::ToSchema)]
struct MessageFunction {
    /// The function's name.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// JSON, as a text.
    arguments: String,
}

/// Whether the reply goes on with the last message instead of following it: an assistant's is continued unless
/// `add_generation_prompt` is true, or `continue_final_message` or its own `prefix` is false.
///
/// # Errors
/// [`ApiError::Field`] where that is asked of another message, or the fields contradict each other.
pub(in crate::http) fn is_continued(
    messages: &[ChatMessage],
    continue_final_message: Option<bool>,
    add_generation_prompt: Option<bool>,
) -> Result<bool, ApiError> {
    let last = messages.len().saturating_sub(1);
    let mut marked = None;
    for (index, message) in messages.iter().enumerate() {
        for (field, mark) in [("prefix", message.prefix), ("partial", message.partial)] {
            let Some(mark) = mark else { continue };
            if mark && (index < last || message.role != Role::Assistant) {
                let param = format!("messages[{index}].{field}");
                return Err(ApiError::field(param, "only a last assistant's message is continued"));
            }
            marked = if index == last { Some(mark) } else { marked };
        }
    }
    let is_said = messages.last().is_some_and(|message| {
        let calls = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        message.role == Role::Assistant && !calls
    });
    let (field, is_wanted) = match (continue_final_message, marked) {
        (Some(wanted), _) => ("continue_final_message", Some(wanted)),
        (None, marked) => ("messages", marked),
    };
    match (is_wanted, add_generation_prompt) {
        (Some(true), _) if !is_said => {
            Err(ApiError::field(field, "the last message is not an assistant's"))
        }
        (Some(true), Some(true)) => {
            Err(ApiError::field("add_generation_prompt", format!("it cannot stand beside {field}")))
        }
        (Some(true), _) => Ok(true),
        (_, Some(false)) if !is_said || is_wanted == Some(false) => {
            Err(ApiError::field("add_generation_prompt", "a reply needs it"))
        }
        (Some(false), _) => Ok(false),
        (None, generates) => Ok(is_said && generates != Some(true)),
    }
}

/// The messages as a text side takes them, one for each: what a tool returned has the role `tool`, and calls
/// are the assistant's `tool_calls`, their arguments as the client sent them.
///
/// # Errors
/// [`ApiError::Field`].
pub(in crate::http) fn template_messages(
    messages: Vec<ChatMessage>,
    limits: &HttpLimits,
) -> Result<(Vec<Message>, Vec<PendingMedia>), ApiError> {
    let mut media = Vec::new();
    if messages.is_empty() || messages.len() > limits.messages {
        let reason = format!("it must have 1 to {} messages", limits.messages);
        return Err(ApiError::field("messages", reason));
    }
    let mut turns = Vec::with_capacity(messages.len());
    let mut known_calls: Option<Vec<String>> = None;
    for (index, message) in messages.into_iter().enumerate() {
        let at = || format!("messages[{index}]");
        let calls = message.tool_calls.unwrap_or_default();
        if !calls.is_empty() && message.role != Role::Assistant {
            let param = format!("{}.tool_calls", at());
            return Err(ApiError::field(param, "only an assistant calls tools"));
        }
        if let Some(call) = calls.iter().position(|call| !call.function.has_good_name()) {
            let param = format!("{}.tool_calls[{call}].function.name", at());
            return Err(ApiError::field(param, format!("it must have 1 to {LONGEST_NAME} bytes")));
        }
        if !calls.is_empty() {
            // Calls without ids are those of a client that names none.
            known_calls = calls.iter().map(|call| call.id.clone()).collect();
        }
        if let (Role::Tool, Some(id), Some(known)) =
            (message.role, &message.tool_call_id, &known_calls)
            && !known.contains(id)
        {
            let param = format!("{}.tool_call_id", at());
            return Err(ApiError::field(param, "the last calls before it have no such id"));
        }
        let refusal = message.refusal.filter(|_| message.role == Role::Assistant);
        let text = match message.content.or(refusal.map(Content::Text)) {
            Some(content) if content.has_media() && message.role == Role::User => {
                Some(content.with_media(&at(), &mut media)?)
            }
            Some(content) => Some(Value::String(content.text().map_err(|(part, reason)| {
                ApiError::field(format!("{}.content[{part}]", at()), reason)
            })?)),
            None if message.role == Role::Assistant && !calls.is_empty() => None,
            // Clients write null where there is nothing to say.
            None if matches!(message.role, Role::Assistant | Role::Tool) => {
                Some(Value::String(String::new()))
            }
            None => return Err(ApiError::field(format!("{}.content", at()), "it is required")),
        };
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Tool => "tool",
            Role::Assistant => "assistant",
        };
        let mut turn = Message::new(role, text.unwrap_or(Value::Null));
        if !calls.is_empty() {
            turn = turn.with("tool_calls", calls.into_iter().map(value_of).collect::<Vec<_>>());
        }
        let texts = [
            ("reasoning_content", message.reasoning_content.or(message.reasoning)),
            ("tool_call_id", message.tool_call_id),
            ("name", message.name),
        ];
        for (field, value) in texts.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            turn = turn.with(field, value);
        }
        turns.push(turn);
    }
    if media.len() > limits.media_parts {
        let reason = format!("at most {} pictures and recordings are taken", limits.media_parts);
        return Err(ApiError::Media { param: "messages".into(), code: "too_many_media", reason });
    }
    Ok((turns, media))
}

/// A call as OpenAI's object.
fn value_of(call: MessageToolCall) -> Value {
    let MessageFunction { name, arguments } = call.function;
    let function = json!({"name": name, "arguments": arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

impl MessageFunction {
    fn has_good_name(&self) -> bool {
        (1..=LONGEST_NAME).contains(&self.name.len())
    }
}

impl Content {
    fn has_media(&self) -> bool {
        let is_media = |part: &Part| matches!(part.kind.as_str(), "image_url" | "input_audio");
        matches!(self, Self::Parts(parts) if parts.iter().any(is_media))
    }

    /// The parts as a chat template takes them; their files are added to `media`. `at` is the message's path.
    fn with_media(self, at: &str, media: &mut Vec<PendingMedia>) -> Result<Value, ApiError> {
        let Self::Parts(parts) = self else { return Ok(Value::Null) };
        let mut written = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let at = format!("{at}.content[{index}]");
            let missing = |field: &str| ApiError::field(format!("{at}.{field}"), "it is required");
            match part.kind.as_str() {
                "image_url" => {
                    let image = part.image_url.ok_or_else(|| missing("image_url"))?;
                    media.push(image_of(&image, at)?);
                    written.push(json!({"type": "image"}));
                }
                "input_audio" => {
                    let audio = part.input_audio.ok_or_else(|| missing("input_audio"))?;
                    media.push(audio_of(&audio, at)?);
                    written.push(json!({"type": "audio"}));
                }
                _ => {
                    let text = Self::Parts(vec![part]).text();
                    let text = text.map_err(|(_, reason)| ApiError::field(at, reason))?;
                    written.push(json!({"type": "text", "text": text}));
                }
            }
        }
        Ok(Value::Array(written))
    }

    /// The whole text; parts are lines.
    fn text(self) -> Result<String, (usize, &'static str)> {
        let parts = match self {
            Self::Text(text) => return Ok(text),
            Self::Parts(parts) => parts,
        };
        let mut texts = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let text = match part.kind.as_str() {
                "text" | "input_text" | "output_text" => part.text,
                "refusal" => part.refusal,
                "image_url" | "input_audio" => {
                    return Err((
                        index,
                        "pictures and recordings stand in a user's messages alone",
                    ));
                }
                _ => {
                    return Err((
                        index,
                        "parts of the types text, image_url and input_audio are read",
                    ));
                }
            };
            match text {
                Some(text) => texts.push(text),
                None if part.kind == "refusal" => {
                    return Err((index, "a part of the type refusal must have a refusal"));
                }
                None => return Err((index, "a part of the type text must have a text")),
            }
        }
        Ok(texts.join("\n"))
    }
}

/// Bytes of text in messages, calls included, which tell how long they take to tokenize.
pub(in crate::http) fn text_bytes(messages: &[Message]) -> usize {
    let bytes = |value: &Value| value.as_str().map_or_else(|| value.to_string().len(), str::len);
    let message = |message: &Message| {
        message.content.iter().chain(message.extra.values()).map(bytes).sum::<usize>()
    };
    messages.iter().map(message).sum()
}
