//! Ollama's messages, and the chat's messages that they are.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::dialect::{Translation, list_at, read_at, refuse};
use crate::http::error::ApiError;

/// A message.
#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Vec<Call>>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

/// A call that an assistant made.
#[derive(Deserialize)]
struct Call {
    id: Option<String>,
    function: Function,
}

/// A function and its arguments.
#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: Option<Map<String, Value>>,
}

/// Turns messages into a chat's. Ollama's results name their function at most, so each gets the id of the first
/// call of that function that has no result yet.
///
/// # Errors
/// [`ApiError::Field`] that names the message.
pub(super) fn translate_messages(messages: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    chat.name("messages", "messages");
    // Names and ids of the last calls; `None` before the first.
    let mut calls: Option<Vec<(String, String)>> = None;
    let mut calls_so_far = 0;
    for (index, message) in list_at("messages", messages)?.iter().enumerate() {
        let at = format!("messages[{index}]");
        refuse(&format!("{at}."), message, &[("images", "this model reads text alone", None)])?;
        let message: Message = read_at(&at, message)?;
        if !["system", "user", "assistant", "tool"].contains(&message.role.as_str()) {
            let reason = "it must be system, user, assistant or tool";
            return Err(ApiError::field(format!("{at}.role"), reason));
        }
        let mut own = json!({"role": message.role, "content": message.content.unwrap_or_default()});
        if let Some(thoughts) = message.thinking.filter(|thoughts| !thoughts.is_empty()) {
            own["reasoning_content"] = thoughts.into();
        }
        let asked = message.tool_calls.unwrap_or_default();
        if !asked.is_empty() {
            let named = asked.iter().map(|call| {
                calls_so_far += 1;
                let id = call.id.clone().unwrap_or_else(|| format!("call_{calls_so_far}"));
                (call.function.name.clone(), id)
            });
            let named: Vec<_> = named.collect();
            let values = asked.into_iter().zip(&named).map(|(call, (name, id))| {
                let arguments = Value::Object(call.function.arguments.unwrap_or_default());
                let function = json!({"name": name, "arguments": arguments.to_string()});
                json!({"id": id, "type": "function", "function": function})
            });
            own["tool_calls"] = values.collect::<Vec<_>>().into();
            calls = Some(named);
        }
        if message.role == "tool" {
            if let Some(name) = &message.tool_name {
                own["name"] = name.as_str().into();
            }
            let answered = (message.tool_name, message.tool_call_id);
            if let Some(id) = answered_call(&at, answered, calls.as_mut())? {
                own["tool_call_id"] = id.into();
            }
        }
        chat.message(at, own);
    }
    Ok(())
}

/// The id of the call that a result is of, which is then answered.
fn answered_call(
    at: &str,
    (name, id): (Option<String>, Option<String>),
    calls: Option<&mut Vec<(String, String)>>,
) -> Result<Option<String>, ApiError> {
    // A client that does not send the calls has nothing to name.
    let Some(calls) = calls else { return Ok(id) };
    let found = calls.iter().position(|(known, known_id)| match (&id, &name) {
        (Some(id), _) => known_id == id,
        (None, Some(name)) => known == name,
        (None, None) => true,
    });
    match (found, id) {
        (Some(call), _) => Ok(Some(calls.remove(call).1)),
        (None, Some(_)) => {
            let reason = "the last calls before it have no such id, or it is answered";
            Err(ApiError::field(format!("{at}.tool_call_id"), reason))
        }
        (None, None) => {
            let reason = "the last calls before it have none of this name that is not answered";
            Err(ApiError::field(format!("{at}.tool_name"), reason))
        }
    }
}
