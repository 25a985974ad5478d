//! Messages and tools as a template sees them, and which of their texts have to show in the prompt.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::error::TextError;
use crate::jinja::{SourceId, TEMPLATE, Text, Value};
use crate::message::Message;

/// Deepest nesting of messages and tools.
const MAX_DEPTH: usize = 64;

/// Roles whose name a template may build control tokens from (`<|{{ role }}|>`). Any other role is
/// text of the caller's.
const KNOWN_ROLES: [&str; 8] =
    ["system", "user", "assistant", "observation", "tool", "function", "developer", "ipython"];

/// Where the template gets the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolsPlace {
    /// The variable `tools`.
    Variable,
    /// That, and the field `tools` of the system message.
    SystemMessage,
}

/// Gives every text of the caller's its number, and remembers which of them must not get lost.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    last: SourceId,
    required: Vec<(String, SourceId)>,
}

impl Fields {
    fn next(&mut self) -> SourceId {
        self.last += 1;
        self.last
    }

    fn require(&mut self, field: impl Into<String>, source: SourceId) {
        self.required.push((field.into(), source));
    }

    /// The required fields of which nothing is among `traced`, in order.
    pub(crate) fn untraced(self, traced: &BTreeSet<SourceId>) -> Vec<String> {
        let lost = self.required.into_iter().filter(|(_, source)| !traced.contains(source));
        lost.map(|(field, _)| field).collect()
    }

    pub(crate) fn messages(&mut self, messages: &[Message]) -> Vec<Value> {
        messages.iter().enumerate().map(|(index, message)| self.message(index, message)).collect()
    }

    fn message(&mut self, index: usize, message: &Message) -> Value {
        let is_known = KNOWN_ROLES.contains(&message.role.as_str());
        let source = if is_known { TEMPLATE } else { self.next() };
        let mut entries = vec![(Value::str("role"), Value::Text(Text::new(&message.role, source)))];
        if let Some(content) = &message.content {
            let field = format!("messages[{index}].content");
            let value = self.content(&field, content, message.role == "assistant");
            entries.push((Value::str("content"), value));
        }
        entries.extend(self.entries(&message.extra));
        Value::dict(entries)
    }

    /// A content: a text, or a list of parts of which some are texts.
    fn content(&mut self, field: &str, content: &Json, thinks: bool) -> Value {
        match content {
            Json::String(text) => self.required_text(field, text, thinks),
            Json::Array(parts) => {
                let parts = parts.iter().enumerate().map(|(index, part)| match part {
                    Json::String(text) => {
                        self.required_text(&format!("{field}[{index}]"), text, thinks)
                    }
                    Json::Object(part) => {
                        let entries = part.iter().map(|(key, value)| {
                            let name = Value::Text(Text::new(key, self.next()));
                            match value {
                                Json::String(text) if key == "text" => {
                                    let field = format!("{field}[{index}].text");
                                    (name, self.required_text(&field, text, thinks))
                                }
                                value => (name, self.value(value)),
                            }
                        });
                        Value::dict(entries.collect::<Vec<_>>())
                    }
                    other => self.value(other),
                });
                Value::list(parts.collect())
            }
            other => self.value(other),
        }
    }

    /// A text that has to show, unless there is nothing to see of it, or nothing but thoughts: a template
    /// that keeps those to the turn they are of may leave out all of it.
    fn required_text(&mut self, field: &str, text: &str, thinks: bool) -> Value {
        let source = self.next();
        let says_nothing = text.trim().is_empty() || (thinks && is_only_thought(text));
        if !says_nothing {
            self.require(field, source);
        }
        Value::Text(Text::new(text, source))
    }

    pub(crate) fn tools(&mut self, tools: &[Json]) -> Vec<Value> {
        tools.iter().enumerate().map(|(index, tool)| self.tool(index, tool)).collect()
    }

    /// A tool, whose name has to show: `function.name`, or `name`.
    fn tool(&mut self, index: usize, tool: &Json) -> Value {
        let value = self.value(tool);
        let name = |tool: &Value| match tool {
            Value::Dict(tool) => match tool.get_str("name") {
                Some(Value::Text(name)) => name.glyphs().first().map(|glyph| glyph.source),
                _ => None,
            },
            _ => None,
        };
        let function = value.as_dict().and_then(|tool| tool.get_str("function"));
        if let Some(source) = function.and_then(name).or_else(|| name(&value)) {
            self.require(format!("tools[{index}]"), source);
        }
        value
    }

    /// Any value of the caller's. Recursion is bounded by [`check_depth`], which saw it first.
    fn value(&mut self, value: &Json) -> Value {
        match value {
            Json::Null => Value::None,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => match number.as_i128() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(Text::new(text, self.next())),
            Json::Array(items) => Value::list(items.iter().map(|item| self.value(item)).collect()),
            Json::Object(map) => Value::dict(self.entries(map)),
        }
    }

    fn entries(&mut self, map: &Map<String, Json>) -> Vec<(Value, Value)> {
        let entries = map.iter().map(|(key, value)| {
            let key = Value::Text(Text::new(key, self.next()));
            (key, self.value(value))
        });
        entries.collect()
    }
}

/// The variables of a rendering.
pub(crate) fn variables<'a>(
    fields: &mut Fields,
    messages: &[Message],
    tools: &[Json],
    place: ToolsPlace,
    given: &Map<String, Json>,
    add_generation_prompt: bool,
    special_tokens: impl Iterator<Item = (&'a String, &'a String)>,
) -> Vec<(String, Value)> {
    let mut messages = fields.messages(messages);
    let tools = match tools {
        [] => Value::None,
        tools => Value::list(fields.tools(tools)),
    };
    if place == ToolsPlace::SystemMessage {
        put_on_system_message(&mut messages, &tools);
    }
    let mut variables: Vec<(String, Value)> =
        special_tokens.map(|(name, text)| (name.clone(), Value::str(text))).collect();
    variables.extend(given.iter().map(|(name, value)| (name.clone(), fields.value(value))));
    variables.extend([
        ("messages".to_owned(), Value::list(messages)),
        ("tools".to_owned(), tools),
        ("documents".to_owned(), Value::None),
        ("add_generation_prompt".to_owned(), Value::Bool(add_generation_prompt)),
    ]);
    variables
}

/// Gives the first message the tools, or puts a system message with nothing else in front.
fn put_on_system_message(messages: &mut Vec<Value>, tools: &Value) {
    let entry = (Value::str("tools"), tools.clone());
    let first = messages.first().and_then(Value::as_dict);
    let system = first.filter(|message| match message.get_str("role") {
        Some(Value::Text(role)) => role.is("system"),
        _ => false,
    });
    match system {
        Some(message) => {
            let entries = message.entries().iter().cloned().chain([entry]);
            messages[0] = Value::dict(entries.collect::<Vec<_>>());
        }
        None => {
            let role = (Value::str("role"), Value::str("system"));
            let content = (Value::str("content"), Value::str(""));
            messages.insert(0, Value::dict([role, content, entry]));
        }
    }
}

/// Whether nothing is said behind the thoughts, or they never end.
fn is_only_thought(text: &str) -> bool {
    match text.rsplit_once("</think>") {
        Some((_, said)) => said.trim().is_empty(),
        None => text.trim_start().starts_with("<think>"),
    }
}

/// Refuses messages, tools and variables that are nested too deeply.
///
/// # Errors
/// [`TextError::NestedTooDeeply`].
pub(crate) fn check_depth(
    messages: &[Message],
    tools: &[Json],
    given: &Map<String, Json>,
) -> Result<(), TextError> {
    let of_messages = messages.iter().flat_map(|m| m.content.iter().chain(m.extra.values()));
    for value in of_messages.chain(tools).chain(given.values()) {
        if !is_shallow(value, MAX_DEPTH) {
            return Err(TextError::NestedTooDeeply { limit: MAX_DEPTH });
        }
    }
    Ok(())
}

fn is_shallow(value: &Json, levels: usize) -> bool {
    match value {
        _ if levels == 0 => false,
        Json::Array(items) => items.iter().all(|item| is_shallow(item, levels - 1)),
        Json::Object(map) => map.values().all(|item| is_shallow(item, levels - 1)),
        _ => true,
    }
}
