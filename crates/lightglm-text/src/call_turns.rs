//! Calls of tools as turns of their own, for templates that know no `tool_calls`.
//!
//! The GLM-4 family says a call as a turn of the assistant with the function's name in `metadata` and the
//! arguments as its content; its results follow in the order of the calls. Where a template knows no
//! `metadata` either, the name is a line in front of the arguments, as GLM's models write it.

use serde_json::Value;

use crate::message::Message;

/// Messages as a template takes them, and what each stands for.
pub(crate) struct Turns {
    pub(crate) messages: Vec<Message>,
    /// For each the path of what is its content (`messages[1].tool_calls[0].function.arguments`).
    origins: Vec<String>,
}

impl Turns {
    /// The messages as they are.
    pub(crate) fn unchanged(messages: &[Message]) -> Self {
        let origins = (0..messages.len()).map(|index| format!("messages[{index}].content"));
        Self { messages: messages.to_vec(), origins: origins.collect() }
    }

    /// The messages with a turn for each call, and results in the order of the calls they name.
    pub(crate) fn with_calls_as_turns(messages: &[Message], knows_metadata: bool) -> Self {
        let mut turns = Self { messages: Vec::new(), origins: Vec::new() };
        let mut ids: Vec<&str> = Vec::new();
        let mut results: Vec<(usize, &Message)> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.extra.contains_key("tool_call_id") {
                results.push((index, message));
                continue;
            }
            turns.push_results(&ids, &mut results);
            let calls = message.extra.get("tool_calls").and_then(Value::as_array);
            let Some(calls) = calls.filter(|calls| !calls.is_empty()) else {
                ids.clear();
                turns.push(message.clone(), format!("messages[{index}].content"));
                continue;
            };
            ids = calls.iter().map(|call| call["id"].as_str().unwrap_or_default()).collect();
            turns.push_calls(index, message, calls, knows_metadata);
        }
        turns.push_results(&ids, &mut results);
        turns
    }

    fn push(&mut self, message: Message, origin: String) {
        self.messages.push(message);
        self.origins.push(origin);
    }

    fn push_calls(
        &mut self,
        index: usize,
        message: &Message,
        calls: &[Value],
        knows_metadata: bool,
    ) {
        let says_something = match &message.content {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        if says_something {
            let mut said = message.clone();
            said.extra.remove("tool_calls");
            self.push(said, format!("messages[{index}].content"));
        }
        for (number, call) in calls.iter().enumerate() {
            let function = call.get("function").unwrap_or(call);
            let arguments = match &function["arguments"] {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let name = function["name"].as_str().unwrap_or_default();
            let role = message.role.as_str();
            let call = match knows_metadata {
                true => Message::new(role, arguments).with("metadata", name),
                false => Message::new(role, format!("{name}\n{arguments}")),
            };
            let origin = format!("messages[{index}].tool_calls[{number}].function.arguments");
            self.push(call, origin);
        }
    }

    fn push_results(&mut self, ids: &[&str], results: &mut Vec<(usize, &Message)>) {
        // Those that name no call of the turn before stay behind the others, in their order.
        let position = |message: &Message| {
            let id = message.extra.get("tool_call_id").and_then(Value::as_str);
            ids.iter().position(|one| Some(*one) == id).unwrap_or(ids.len())
        };
        results.sort_by_key(|(_, message)| position(message));
        for (index, message) in results.drain(..) {
            self.push(message.clone(), format!("messages[{index}].content"));
        }
    }

    /// The field of the messages given behind a field of these messages.
    pub(crate) fn origin_of(&self, field: &str) -> String {
        let origin = || {
            let (index, rest) = field.strip_prefix("messages[")?.split_once("].content")?;
            Some(format!("{}{rest}", self.origins.get(index.parse::<usize>().ok()?)?))
        };
        origin().unwrap_or_else(|| field.to_owned())
    }
}
