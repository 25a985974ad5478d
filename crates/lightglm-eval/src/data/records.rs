//! JSON records with their lines: a JSONL file, a JSON array, or one JSON document.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::EvalDataError;

/// A JSON value and the line, counting from 1, that it begins on (1 for the elements of an array).
pub(super) struct Record {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// The records of `text`: one a line, where the first line is a whole value; the elements, where
/// the text is one array; the text itself otherwise. Blank lines are passed over.
pub(super) fn records(path: &Path, text: &str) -> Result<Vec<Record>, EvalDataError> {
    let lines = text.lines().zip(1_usize..).filter(|(line, _)| !line.trim().is_empty());
    let mut lines = lines.peekable();
    let Some(&(first, _)) = lines.peek() else {
        return Err(EvalDataError::Empty { path: path.to_owned() });
    };
    let parse = |text: &str, line: usize| {
        serde_json::from_str::<Value>(text).map_err(|error| {
            let reason = error.to_string();
            // serde_json counts lines within what it was given.
            let reason = reason.split(" at line ").next().unwrap_or(&reason);
            let reason = format!("{reason} at column {}", error.column());
            EvalDataError::malformed(path, line + error.line().saturating_sub(1), "", reason)
        })
    };
    if serde_json::from_str::<Value>(first).is_ok_and(|value| value.is_object())
        || looks_like_lines(text)
    {
        return lines.map(|(text, line)| Ok(Record { line, value: parse(text, line)? })).collect();
    }
    let values = match parse(text, 1)? {
        Value::Array(values) => values,
        value => vec![value],
    };
    if values.is_empty() {
        return Err(EvalDataError::Empty { path: path.to_owned() });
    }
    Ok(values.into_iter().map(|value| Record { line: 1, value }).collect())
}

/// Whether a later line begins a record like the first: then a broken first line is what is wrong,
/// not the whole text.
fn looks_like_lines(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let is_record = |line: &str| line.starts_with('{') && line.trim_end().ends_with('}');
    first.starts_with('{') && lines.next().is_some_and(is_record)
}

impl Record {
    /// Whether the record is an object with this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    /// The record as a `T`.
    pub(super) fn parse<T: DeserializeOwned>(self, path: &Path) -> Result<T, EvalDataError> {
        serde_path_to_error::deserialize(self.value).map_err(|error| {
            let field = match error.path().to_string() {
                root if root == "." => String::new(),
                field => field,
            };
            EvalDataError::malformed(path, self.line, field, error.inner())
        })
    }
}
