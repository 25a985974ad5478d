//! Fields of a JSON object, with their paths for errors.

use serde_json::{Map, Value};

use crate::formats::FormatError;

/// A JSON object and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a str,
}

impl<'a> Fields<'a> {
    /// `value`, which must be an object, as the object called `path`.
    pub(super) fn new(value: &'a Value, path: &'a str) -> Result<Self, FormatError> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            other => Err(wrong(path, other, "an object")),
        }
    }

    /// The full path of `name`.
    pub(super) fn path(&self, name: &str) -> String {
        match self.path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// The field, or `None` where it is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn require(&self, name: &str) -> Result<&'a Value, FormatError> {
        self.get(name).ok_or_else(|| FormatError::MissingField { field: self.path(name) })
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, FormatError> {
        self.typed(name, Value::as_str, "a string")
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, FormatError> {
        self.typed(name, Value::as_bool, "true or false")
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, FormatError> {
        self.typed(name, Value::as_i64, "an integer")
    }

    /// A list of strings; empty where the field is missing or null.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&'a str>, FormatError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.wrong(name, "a list of strings"))?;
        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
        texts.ok_or_else(|| self.wrong(name, "a list of strings"))
    }

    /// The error that `name` is not `expected`.
    pub(super) fn wrong(&self, name: &str, expected: &'static str) -> FormatError {
        wrong(&self.path(name), self.map.get(name).unwrap_or(&Value::Null), expected)
    }

    /// The error that the value of `name` is not supported.
    pub(super) fn unsupported(&self, name: &str, supported: &'static str) -> FormatError {
        let value = self.map.get(name).unwrap_or(&Value::Null);
        FormatError::Unsupported { field: self.path(name), value: short(value), supported }
    }

    fn typed<T>(
        &self,
        name: &str,
        read: impl Fn(&'a Value) -> Option<T>,
        expected: &'static str,
    ) -> Result<Option<T>, FormatError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(name, expected)),
        }
    }
}

fn wrong(path: &str, value: &Value, expected: &'static str) -> FormatError {
    FormatError::Field { field: path.to_owned(), value: short(value), expected }
}

/// The value as JSON, cut off where it is long.
fn short(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
