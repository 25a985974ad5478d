//! Ollama's messages, and the chat's messages that they are.

use std::collections::{HashMap, VecDeque};

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
    // The last calls; `None` before the first.
    let mut calls: Option<OpenCalls> = None;
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
            calls = Some(OpenCalls::new(named));
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

/// Calls that may still be answered; each is found and taken in the same time, however many there are.
struct OpenCalls {
    /// Their ids; `None` of those that are answered.
    ids: Vec<Option<String>>,
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
    all: VecDeque<usize>,
}

impl OpenCalls {
    /// Of names and ids.
    fn new(calls: Vec<(String, String)>) -> Self {
        let (mut by_id, mut by_name) = (HashMap::new(), HashMap::new());
        for (at, (name, id)) in calls.iter().enumerate() {
            by_id.entry(id.clone()).or_insert_with(VecDeque::new).push_back(at);
            by_name.entry(name.clone()).or_insert_with(VecDeque::new).push_back(at);
        }
        let all = (0..calls.len()).collect();
        Self { ids: calls.into_iter().map(|(_, id)| Some(id)).collect(), by_id, by_name, all }
    }

    /// The first that is meant, by its id, else its name, else its turn.
    fn answer(&mut self, name: Option<&str>, id: Option<&str>) -> Option<String> {
        let Self { ids, by_id, by_name, all } = self;
        let waiting = match (id, name) {
            (Some(id), _) => by_id.get_mut(id)?,
            (None, Some(name)) => by_name.get_mut(name)?,
            (None, None) => all,
        };
        loop {
            if let Some(id) = ids[waiting.pop_front()?].take() {
                return Some(id);
            }
        }
    }
}

/// The id of the call that a result is of, which is then answered.
fn answered_call(
    at: &str,
    (name, id): (Option<String>, Option<String>),
    calls: Option<&mut OpenCalls>,
) -> Result<Option<String>, ApiError> {
    // A client that does not send the calls has nothing to name.
    let Some(calls) = calls else { return Ok(id) };
    match (calls.answer(name.as_deref(), id.as_deref()), id) {
        (Some(id), _) => Ok(Some(id)),
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
