//! Fields of a record, taken out of it: a text, a list, or what is wrong with them.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::fault::Fault;
use super::record::{Located, type_of};

/// Characters of a reason that are kept.
const LONGEST_REASON: usize = 200;

/// Fields that hold what a text model cannot take in.
pub(super) const MEDIA: [&str; 7] =
    ["images", "image", "audios", "audio", "videos", "video", "objects"];

pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Whether a field says nothing: exports write every field of a table, also where there is nothing.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(super) fn missing(name: &str) -> Located {
    Located::field(name, Fault::FieldMissing)
}

pub(super) fn wrong_type(field: impl Into<String>, expected: &str, found: &Value) -> Located {
    let reason = format!("expected {expected}, found {}", type_of(found));
    Located::field(field, Fault::WrongType { reason })
}

/// The text in the field `name`, taken out; null is nothing, and a number is its digits (labels are
/// numbers in many tables).
pub(super) fn optional(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<String>, Located> {
    match fields.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(wrong_type(name, "a text", &other)),
    }
}

pub(super) fn required(fields: &mut Map<String, Value>, name: &str) -> Result<String, Located> {
    optional(fields, name)?.ok_or_else(|| missing(name))
}

/// The list in the field `name`, taken out, also where it is written as a text of JSON; null, a blank
/// text and an empty list are nothing.
pub(super) fn list(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<Vec<Value>>, Located> {
    let Some(value) = fields.shift_remove(name) else { return Ok(None) };
    match from_text(value) {
        Value::Array(list) => Ok(Some(list)),
        value if is_nothing(&value) => Ok(None),
        other => Err(wrong_type(name, "a list", &other)),
    }
}

/// What a text of JSON (a list or an object) says; any other value as it is.
pub(super) fn from_text(value: Value) -> Value {
    match &value {
        Value::String(text) if is_blank(text) => Value::Null,
        Value::String(text) if text.trim_start().starts_with(['[', '{']) => {
            serde_json::from_str(text).unwrap_or(value)
        }
        _ => value,
    }
}

/// What a message says, in the field `at`: a text, or a list of parts that are all texts.
pub(super) fn content(value: Value, at: &str) -> Result<String, Located> {
    serde_json::from_value::<Content>(value).map(|content| content.0).map_err(|error| {
        // serde repeats a text of the wrong kind in full.
        let mut reason = error.to_string();
        if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
            reason.truncate(end);
            reason.push_str("...");
        }
        Located::field(at, Fault::WrongType { reason })
    })
}

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
