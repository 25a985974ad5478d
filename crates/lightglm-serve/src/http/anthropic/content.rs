//! Messages made of blocks, and the chat's messages that they are.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::http::dialect::{Translation, joined_texts, list_at, text_at};
use crate::http::error::ApiError;

const TEXT: [(&str, &str); 1] = [("text", "text")];

/// Turns messages into a chat's: each result of a tool becomes a message of its own.
///
/// # Errors
/// [`ApiError::Field`] that names the block.
pub(super) fn translate_messages(messages: &Value, chat: &mut Translation) -> Result<(), ApiError> {
    let messages = list_at("messages", messages)?;
    if messages.is_empty() {
        return Err(ApiError::field("messages", "it must have a message"));
    }
    chat.name("messages", "messages");
    let mut tool_use_ids = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages[{index}]");
        if !message.is_object() {
            return Err(ApiError::field(at, "it must be an object"));
        }
        let content = &message["content"];
        let content_at = format!("{at}.content");
        match (text_at(&at, message, "role")?, content) {
            (role @ ("user" | "assistant" | "system"), Value::String(text)) => {
                chat.message(at, json!({"role": role, "content": text}));
            }
            ("user", Value::Array(blocks)) => {
                user_blocks(&content_at, blocks, &tool_use_ids, chat)?;
            }
            ("assistant", Value::Array(blocks)) => {
                let message = assistant_blocks(&content_at, blocks, &mut tool_use_ids)?;
                let place = chat.message(at, message);
                name_calls(chat, &place, &content_at, blocks);
            }
            ("system", blocks @ Value::Array(_)) => {
                let text = joined_texts(&content_at, blocks, &TEXT)?;
                chat.message(at, json!({"role": "system", "content": text}));
            }
            ("user" | "assistant" | "system", Value::Null) => {
                return Err(ApiError::field(content_at, "it is required"));
            }
            ("user" | "assistant" | "system", _) => {
                return Err(ApiError::field(content_at, "it must be a string or a list of blocks"));
            }
            _ => {
                let reason = "it must be user or assistant";
                return Err(ApiError::field(format!("{at}.role"), reason));
            }
        }
    }
    Ok(())
}

fn user_blocks(
    at: &str,
    blocks: &[Value],
    tool_use_ids: &HashSet<String>,
    chat: &mut Translation,
) -> Result<(), ApiError> {
    if blocks.is_empty() {
        return Err(ApiError::field(at, "it must have a block"));
    }
    let mut texts: Vec<&str> = Vec::new();
    let mut first = 0;
    let flush = |texts: &mut Vec<&str>, first: usize, chat: &mut Translation| {
        if !texts.is_empty() {
            let message = json!({"role": "user", "content": texts.join("\n")});
            let place = chat.message(at, message);
            chat.name(format!("{place}.content"), format!("{at}[{first}]"));
            texts.clear();
        }
    };
    for (index, block) in blocks.iter().enumerate() {
        let place = format!("{at}[{index}]");
        match text_at(&place, block, "type")? {
            "text" => {
                if texts.is_empty() {
                    first = index;
                }
                texts.push(text_at(&place, block, "text")?);
            }
            "tool_result" => {
                flush(&mut texts, first, chat);
                tool_result(&place, block, tool_use_ids, chat)?;
            }
            "tool_use" | "thinking" => {
                return Err(ApiError::field(format!("{place}.type"), "only an assistant has it"));
            }
            _ => return Err(unread_block(&place)),
        }
    }
    flush(&mut texts, first, chat);
    Ok(())
}

fn unread_block(at: &str) -> ApiError {
    let reason = "this model reads text alone: it must be text, tool_use, tool_result or thinking";
    ApiError::field(format!("{at}.type"), reason)
}

fn tool_result(
    at: &str,
    block: &Value,
    tool_use_ids: &HashSet<String>,
    chat: &mut Translation,
) -> Result<(), ApiError> {
    let id = text_at(at, block, "tool_use_id")?;
    if !tool_use_ids.contains(id) {
        let reason = "no tool_use before it has this id";
        return Err(ApiError::field(format!("{at}.tool_use_id"), reason));
    }
    let mut text = match &block["content"] {
        Value::Null => String::new(),
        content => joined_texts(&format!("{at}.content"), content, &TEXT)?,
    };
    match &block["is_error"] {
        Value::Null | Value::Bool(false) => {}
        // No chat template has a place for it.
        Value::Bool(true) => text = format!("Error: {text}"),
        _ => return Err(ApiError::field(format!("{at}.is_error"), "it must be a boolean")),
    }
    let place = chat.message(at, json!({"role": "tool", "tool_call_id": id, "content": text}));
    chat.name(format!("{place}.tool_call_id"), format!("{at}.tool_use_id"));
    Ok(())
}

fn assistant_blocks(
    at: &str,
    blocks: &[Value],
    tool_use_ids: &mut HashSet<String>,
) -> Result<Value, ApiError> {
    let (mut texts, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new());
    for (index, block) in blocks.iter().enumerate() {
        let at = format!("{at}[{index}]");
        match text_at(&at, block, "type")? {
            "text" => texts += text_at(&at, block, "text")?,
            "thinking" => thoughts += text_at(&at, block, "thinking")?,
            "tool_use" => {
                let id = text_at(&at, block, "id")?;
                if !tool_use_ids.insert(id.to_owned()) {
                    return Err(ApiError::field(format!("{at}.id"), "another tool_use has it"));
                }
                let name = text_at(&at, block, "name")?;
                let Value::Object(input) = &block["input"] else {
                    return Err(ApiError::field(format!("{at}.input"), "it must be an object"));
                };
                let arguments = Value::Object(input.clone()).to_string();
                let function = json!({"name": name, "arguments": arguments});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
            "tool_result" => {
                return Err(ApiError::field(format!("{at}.type"), "only a user has it"));
            }
            _ => return Err(unread_block(&at)),
        }
    }
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let says_nothing = texts.is_empty() && !calls.is_empty();
    message.insert("content".into(), if says_nothing { Value::Null } else { texts.into() });
    if !thoughts.is_empty() {
        message.insert("reasoning_content".into(), thoughts.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    }
    Ok(message.into())
}

/// Says of calls which blocks they came from.
fn name_calls(chat: &mut Translation, place: &str, at: &str, blocks: &[Value]) {
    let calls = blocks.iter().enumerate().filter(|(_, block)| block["type"] == "tool_use");
    for (call, (index, _)) in calls.enumerate() {
        let call = format!("{place}.tool_calls[{call}]");
        chat.name(format!("{call}.function"), format!("{at}[{index}]"));
        chat.name(call, format!("{at}[{index}]"));
    }
}
