//! `example_of`: a record of any format as an example.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::example::{Conversation, Example, Role, Text, Turn};
use super::fault::Fault;
use super::format::{DataFormat, pair_of};
use super::options::ReadOptions;
use super::record::{Located, type_of};

/// Characters of a reason that are kept.
const LONGEST_REASON: usize = 200;

/// The record that began on `line` as an example; the fields that are left over become its `extra`.
pub(super) fn example_of(
    mut fields: Map<String, Value>,
    format: DataFormat,
    options: &ReadOptions,
    line: usize,
) -> Result<Example, Located> {
    let fields = &mut fields;
    let mut turns = match format {
        DataFormat::Messages => messages(fields)?,
        DataFormat::Alpaca => alpaca(fields)?,
        DataFormat::ShareGpt => share_gpt(fields)?,
        DataFormat::PromptCompletion => pair(fields, "prompt", "completion")?,
        DataFormat::QuestionAnswer => match &options.columns {
            Some(columns) => pair(fields, &columns.question, &columns.answer)?,
            None => {
                let found = pair_of(|name| fields.contains_key(name));
                let (question, answer) = found.unwrap_or(("question", "answer"));
                pair(fields, question, answer)?
            }
        },
        DataFormat::Text => return text_of(required(fields, "text")?, line),
    };
    if let Some(system) = &options.system
        && turns.iter().all(|turn| turn.role != Role::System)
    {
        turns.insert(0, Turn::new(Role::System, system.as_str()));
    }
    check(&turns, format)?;
    Ok(Example::Conversation(Conversation { turns, line, extra: std::mem::take(fields) }))
}

/// A text that began on `line` as an example.
pub(super) fn text_of(text: String, line: usize) -> Result<Example, Located> {
    if is_empty(&text) {
        return Err(Located::row(Fault::EmptyText));
    }
    Ok(Example::Text(Text { text, line }))
}

/// Whether the turns end with an answer, and something is learnt from them.
fn check(turns: &[Turn], format: DataFormat) -> Result<(), Located> {
    if turns.iter().all(|turn| turn.role != Role::Assistant) {
        return Err(Located::row(Fault::NoAssistantTurn));
    }
    if let Some(last) = turns.last()
        && last.role != Role::Assistant
    {
        return Err(Located::row(Fault::LastTurnNotAssistant { role: last.role }));
    }
    if !turns.iter().any(|turn| turn.learn) {
        return Err(Located::row(Fault::NothingToLearn));
    }
    for (index, turn) in turns.iter().enumerate() {
        let fault = match turn.role {
            Role::Assistant => Fault::EmptyAnswer,
            Role::User => Fault::EmptyQuestion,
            // A tool may have nothing to say.
            Role::System | Role::Tool => continue,
        };
        if is_empty(&turn.content) {
            let field = match format {
                DataFormat::Messages => format!("messages[{index}].content"),
                _ => String::new(),
            };
            return Err(Located::field(field, fault));
        }
    }
    Ok(())
}

fn is_empty(text: &str) -> bool {
    text.trim().is_empty()
}

// The formats.

#[derive(Deserialize)]
struct Message {
    // Also under ShareGPT's names, so that one list does for both.
    #[serde(alias = "from")]
    role: Option<String>,
    #[serde(alias = "value")]
    content: Option<Content>,
    weight: Option<serde_json::Number>,
    tool_calls: Option<Value>,
    function_call: Option<Value>,
}

fn messages(fields: &mut Map<String, Value>) -> Result<Vec<Turn>, Located> {
    turns_of(fields, "messages", ("role", "content"))
}

fn share_gpt(fields: &mut Map<String, Value>) -> Result<Vec<Turn>, Located> {
    let mut turns = turns_of(fields, "conversations", ("from", "value"))?;
    prepend_system(fields, &mut turns)?;
    Ok(turns)
}

/// The turns of the list `list`, whose elements' fields are called `names` in messages.
fn turns_of(
    fields: &mut Map<String, Value>,
    list: &str,
    (role_name, content_name): (&str, &str),
) -> Result<Vec<Turn>, Located> {
    let mut turns = Vec::new();
    let messages: Vec<Message> = typed(fields, list)?.ok_or_else(|| missing(list))?;
    for (index, message) in messages.into_iter().enumerate() {
        let at = |name: &str, fault| Located::field(format!("{list}[{index}].{name}"), fault);
        let name = message.role.ok_or_else(|| at(role_name, Fault::FieldMissing))?;
        let calls = message.tool_calls.map(|calls| ("tool_calls", calls));
        let calls = calls.or(message.function_call.map(|call| ("function_call", call)));
        if let Some((field, calls)) = calls
            && !matches!(&calls, Value::Array(calls) if calls.is_empty())
        {
            return Err(at(field, Fault::ToolCalls));
        }
        if name == "function_call" {
            return Err(at(role_name, Fault::ToolCalls));
        }
        let Some(role) = Role::from_name(&name) else {
            return Err(at(role_name, Fault::UnknownRole { role: name }));
        };
        let content = message.content.ok_or_else(|| at(content_name, Fault::FieldMissing))?.0;
        let weight = message.weight.map(|weight| (weight.as_f64(), weight));
        let learn = match weight {
            None | Some((Some(1.0), _)) => true,
            Some((Some(0.0), _)) => false,
            Some((_, weight)) => {
                return Err(at("weight", Fault::Weight { weight: weight.to_string() }));
            }
        };
        if role == Role::System && is_empty(&content) {
            // Exports write an empty one where there is none.
            continue;
        }
        turns.push(Turn { role, content, learn: learn && role == Role::Assistant });
    }
    Ok(turns)
}

fn alpaca(fields: &mut Map<String, Value>) -> Result<Vec<Turn>, Located> {
    let mut turns = Vec::new();
    for (question, answer) in typed::<Vec<(String, String)>>(fields, "history")?.unwrap_or_default()
    {
        turns.push(Turn::new(Role::User, question));
        turns.push(Turn::new(Role::Assistant, answer));
    }
    let mut question = required(fields, "instruction")?;
    match optional(fields, "input")? {
        Some(input) if !is_empty(&input) => {
            question.push('\n');
            question.push_str(&input);
        }
        _ => {}
    }
    turns.push(Turn::new(Role::User, question));
    turns.push(Turn::new(Role::Assistant, required(fields, "output")?));
    prepend_system(fields, &mut turns)?;
    Ok(turns)
}

fn pair(
    fields: &mut Map<String, Value>,
    question: &str,
    answer: &str,
) -> Result<Vec<Turn>, Located> {
    let question = Turn::new(Role::User, required(fields, question)?);
    let answer_turn = Turn::new(Role::Assistant, required(fields, answer)?);
    Ok(vec![question, answer_turn])
}

/// Puts the record's own system turn first, where it has one.
fn prepend_system(fields: &mut Map<String, Value>, turns: &mut Vec<Turn>) -> Result<(), Located> {
    if let Some(system) = optional(fields, "system")?
        && !is_empty(&system)
    {
        turns.insert(0, Turn::new(Role::System, system));
    }
    Ok(())
}

// Fields.

fn missing(name: &str) -> Located {
    Located::field(name, Fault::FieldMissing)
}

/// The text in the field `name`, taken out; null is nothing.
fn optional(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Located> {
    match fields.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => {
            let reason = format!("expected a text, found {}", type_of(&other));
            Err(Located::field(name, Fault::WrongType { reason }))
        }
    }
}

fn required(fields: &mut Map<String, Value>, name: &str) -> Result<String, Located> {
    optional(fields, name)?.ok_or_else(|| missing(name))
}

/// The field `name` as a `T`, taken out; null is nothing.
fn typed<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, Located> {
    let value = match fields.shift_remove(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let parsed = serde_path_to_error::deserialize(value).map_err(|error| {
        let field = match error.path().to_string() {
            root if root == "." => name.to_owned(),
            path => format!("{name}{path}"),
        };
        // serde repeats a text of the wrong kind in full.
        let mut reason = error.inner().to_string();
        if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
            reason.truncate(end);
            reason.push_str("...");
        }
        Located::field(field, Fault::WrongType { reason })
    })?;
    Ok(Some(parsed))
}

/// What a message says: a text, or a list of parts that are all texts.
struct Content(String);

#[derive(Deserialize)]
struct Part {
    r#type: Option<String>,
    text: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of text parts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Content, E> {
        Ok(Content(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut content = String::new();
        while let Some(part) = parts.next_element::<Part>()? {
            match (part.r#type.as_deref(), part.text) {
                (Some("text"), Some(text)) => content.push_str(&text),
                (Some("text"), None) => return Err(de::Error::missing_field("text")),
                (Some(other), _) => {
                    let reason = format!("a part of type {other:?}: texts alone are read");
                    return Err(de::Error::custom(reason));
                }
                (None, _) => return Err(de::Error::missing_field("type")),
            }
        }
        Ok(Content(content))
    }
}
