//! Tools and their results inside of ordinary messages, for templates that have no place for them.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::message::Message;

/// Roles of what a tool returned.
const RESULTS: [&str; 3] = ["tool", "observation", "function"];

/// The conversation with its tools written into the system message, which is put in front where there is
/// none, and with what tools returned said by the user.
///
/// `lost` are the fields that do not get into the prompt otherwise; what is not among them stays.
/// `None` is everything.
pub(crate) fn into_system(
    messages: &[Message],
    tools: &[Value],
    lost: Option<&[String]>,
) -> Vec<Message> {
    let is_lost =
        |field: &str| lost.is_none_or(|lost| lost.iter().any(|one| one.starts_with(field)));
    let mut folded = messages.to_vec();
    for (index, message) in folded.iter_mut().enumerate() {
        let is_result = RESULTS.contains(&message.role.as_str());
        if is_result && is_lost(&format!("messages[{index}].")) {
            "user".clone_into(&mut message.role);
        }
    }
    if tools.is_empty() {
        return folded;
    }
    let text = description(tools);
    match folded.first_mut().filter(|message| message.role == "system") {
        Some(system) => append(system, &text),
        None => folded.insert(0, Message::system(text)),
    }
    folded
}

/// The conversation without its system message, whose text the first message of the user begins with;
/// `None` where there are no such two.
pub(crate) fn system_into_user(messages: &[Message]) -> Option<Vec<Message>> {
    let (system, rest) = messages.split_first().filter(|(first, _)| first.role == "system")?;
    let text = system.content.as_ref()?.as_str()?;
    let mut folded = rest.to_vec();
    let user = folded.iter_mut().find(|message| message.role == "user")?;
    let mut first = Message::user(text);
    append(&mut first, user.content.as_ref()?.as_str()?);
    user.content = first.content;
    Some(folded)
}

/// Adds a paragraph to a message.
fn append(message: &mut Message, text: &str) {
    let whole = match message.content.take() {
        Some(Value::String(content)) if !content.is_empty() => format!("{content}\n\n{text}"),
        Some(Value::Array(mut parts)) => {
            parts.push(serde_json::json!({ "type": "text", "text": text }));
            message.content = Some(Value::Array(parts));
            return;
        }
        _ => text.to_owned(),
    };
    message.content = Some(Value::String(whole));
}

/// The tools as GLM-4-0414's template describes them, so that calls come as they do from there.
fn description(tools: &[Value]) -> String {
    let mut text = "# 可用工具".to_owned();
    for tool in tools {
        let function = tool.get("function").unwrap_or(tool);
        let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
        text.push_str(&format!(
            "\n\n## {name}\n\n{}\n在调用上述函数时，请使用 Json 格式表示调用的参数。",
            indented(function)
        ));
    }
    text
}

fn indented(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    // Values have texts for keys, and a Vec takes every byte.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&bytes).into_owned()
}
