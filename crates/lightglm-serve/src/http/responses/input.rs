//! Items of a conversation, and the messages that they are.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::http::dialect::{Translation, joined_texts, list_at, text_at};
use crate::http::error::ApiError;

/// The kinds of parts that are read, and where their text is.
const PARTS: [(&str, &str); 5] = [
    ("input_text", "text"),
    ("output_text", "text"),
    ("text", "text"),
    ("refusal", "refusal"),
    ("summary_text", "text"),
];

/// Turns items into messages: calls in a row are one message's, and thoughts belong to what follows them.
///
/// # Errors
/// [`ApiError::Field`] that names the item.
pub(super) fn translate_input(input: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    if let Some(text) = input.as_str() {
        let place = chat.message("input", json!({"role": "user", "content": text}));
        chat.name(format!("{place}.content"), "input");
        return Ok(());
    }
    if !input.is_array() {
        return Err(ApiError::field("input", "it must be a string or a list of items"));
    }
    let items = list_at("input", input)?;
    if items.is_empty() {
        return Err(ApiError::field("input", "it must have an item"));
    }
    let mut items_read = Items { chat, thoughts: None, call_ids: HashSet::new(), calling: false };
    for (index, item) in items.iter().enumerate() {
        items_read.take(&format!("input[{index}]"), item)?;
    }
    Ok(())
}

struct Items<'a> {
    chat: &'a mut Translation,
    /// Thoughts that belong to the next message or call.
    thoughts: Option<String>,
    /// The calls so far.
    call_ids: HashSet<String>,
    /// Whether the last message is an assistant's that a call can join.
    calling: bool,
}

impl Items<'_> {
    fn take(&mut self, at: &str, item: &Value) -> Result<(), ApiError> {
        if !item.is_object() {
            return Err(ApiError::field(at, "it must be an object"));
        }
        let kind = match &item["type"] {
            Value::Null if !item["role"].is_null() => "message",
            _ => text_at(at, item, "type")?,
        };
        match kind {
            "message" => self.message(at, item),
            "function_call" => self.call(at, item),
            "function_call_output" => self.output(at, item),
            "reasoning" => self.reasoning(at, item),
            "item_reference" => {
                let reason = "nothing is stored here: send the item itself";
                Err(ApiError::field(format!("{at}.type"), reason))
            }
            _ => {
                let reason = "it must be message, function_call, function_call_output or reasoning";
                Err(ApiError::field(format!("{at}.type"), reason))
            }
        }
    }

    fn message(&mut self, at: &str, item: &Value) -> Result<(), ApiError> {
        let role = text_at(at, item, "role")?;
        if !["user", "system", "developer", "assistant"].contains(&role) {
            let reason = "it must be user, system, developer or assistant";
            return Err(ApiError::field(format!("{at}.role"), reason));
        }
        let content = joined_texts(&format!("{at}.content"), &item["content"], &PARTS[..4])?;
        let mut message = json!({"role": role, "content": content});
        if role == "assistant" {
            self.think(&mut message);
        }
        self.thoughts = None;
        self.chat.message(at, message);
        self.calling = role == "assistant";
        Ok(())
    }

    fn think(&mut self, message: &mut Value) {
        if let Some(thoughts) = self.thoughts.take() {
            message["reasoning_content"] = thoughts.into();
        }
    }

    fn call(&mut self, at: &str, item: &Value) -> Result<(), ApiError> {
        let id = text_at(at, item, "call_id")?;
        let name = text_at(at, item, "name")?;
        let arguments = text_at(at, item, "arguments")?;
        if !self.call_ids.insert(id.to_owned()) {
            return Err(ApiError::field(format!("{at}.call_id"), "another call has it"));
        }
        let function = json!({"name": name, "arguments": arguments});
        let call = json!({"id": id, "type": "function", "function": function});
        let joins = self.calling && self.thoughts.is_none();
        if !joins {
            let mut message = json!({"role": "assistant", "content": null, "tool_calls": []});
            self.think(&mut message);
            self.chat.message(at, message);
            self.calling = true;
        }
        let Some((index, message)) = self.chat.last_message() else { return Ok(()) };
        let calls = message.entry("tool_calls").or_insert_with(|| json!([]));
        let Some(calls) = calls.as_array_mut() else { return Ok(()) };
        calls.push(call);
        let place = format!("messages[{index}].tool_calls[{}]", calls.len() - 1);
        self.chat.name(place.clone(), at);
        self.chat.name(format!("{place}.function"), at);
        Ok(())
    }

    fn output(&mut self, at: &str, item: &Value) -> Result<(), ApiError> {
        let id = text_at(at, item, "call_id")?;
        if !self.call_ids.contains(id) {
            let reason = "no function_call before it has this id";
            return Err(ApiError::field(format!("{at}.call_id"), reason));
        }
        let output = joined_texts(&format!("{at}.output"), &item["output"], &PARTS[..3])?;
        let message = json!({"role": "tool", "tool_call_id": id, "content": output});
        let place = self.chat.message(at, message);
        self.chat.name(format!("{place}.content"), format!("{at}.output"));
        self.chat.name(format!("{place}.tool_call_id"), format!("{at}.call_id"));
        self.calling = false;
        self.thoughts = None;
        Ok(())
    }

    /// Thoughts as they were, else a summary of them; what is encrypted only its maker can read.
    fn reasoning(&mut self, at: &str, item: &Value) -> Result<(), ApiError> {
        let part = [("reasoning_text", "text"), ("text", "text")];
        let mut texts = Vec::new();
        for (field, kinds) in [("content", &part[..]), ("summary", &PARTS[4..])] {
            let place = format!("{at}.{field}");
            match &item[field] {
                Value::Null => {}
                parts @ Value::Array(_) => texts.push(joined_texts(&place, parts, kinds)?),
                _ => return Err(ApiError::field(place, "it must be a list")),
            }
        }
        self.thoughts = texts.into_iter().find(|text| !text.is_empty()).or(self.thoughts.take());
        Ok(())
    }
}
