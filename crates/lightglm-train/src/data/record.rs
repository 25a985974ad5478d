//! `parse_json`, `Header`: a row's bytes as a record, fields by name.

use lightglm_core::without_python_numbers;
use serde_json::{Map, Value};

use super::csv_record::fields;
use super::fault::Fault;
use super::unrepeated::Unrepeated;

/// A fault, the field it is in (empty for the row as a whole), and lines from the row's first one.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) field: String,
    pub(super) lines_down: usize,
    pub(super) fault: Fault,
}

impl Located {
    pub(super) fn row(fault: Fault) -> Self {
        Self::field("", fault)
    }

    pub(super) fn field(field: impl Into<String>, fault: Fault) -> Self {
        Self { field: field.into(), lines_down: 0, fault }
    }
}

/// A row as text.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Located> {
    std::str::from_utf8(bytes).map_err(|error| {
        let byte = error.valid_up_to();
        let lines_down = bytes[..byte].iter().filter(|byte| **byte == b'\n').count();
        Located { field: String::new(), lines_down, fault: Fault::NotUtf8 { byte } }
    })
}

/// A row of JSON as a record. Numbers that are none (`NaN`, `Infinity`), which Python writes, are null.
pub(super) fn parse_json(row: &[u8]) -> Result<Map<String, Value>, Located> {
    // Files that were joined have a byte order mark in the middle.
    let row = utf8(row)?.trim_start_matches('\u{feff}');
    let parse = |row: &[u8]| serde_json::from_slice::<Unrepeated>(row).map(|value| value.0);
    let value = parse(row.as_bytes()).or_else(|error| {
        let without = without_python_numbers(row.as_bytes());
        without.and_then(|row| parse(&row).ok()).ok_or_else(|| {
            let reason = error.to_string();
            // serde_json counts lines within what it was given.
            let reason = reason.split(" at line ").next().unwrap_or(&reason).to_owned();
            let fault = Fault::NotJson { reason, column: error.column() };
            Located { field: String::new(), lines_down: error.line().saturating_sub(1), fault }
        })
    })?;
    match value {
        Value::Object(fields) => Ok(fields),
        other => {
            let reason = format!("a record is an object, not {}", type_of(&other));
            Err(Located::row(Fault::WrongType { reason }))
        }
    }
}

/// What kind of value it is, with its article.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The columns of a CSV file.
pub(super) struct Header {
    pub(super) columns: Vec<String>,
    delimiter: u8,
}

impl Header {
    pub(super) fn parse(row: &[u8], delimiter: u8) -> Result<Self, Located> {
        let mut columns: Vec<String> = Vec::new();
        for (index, name) in fields(utf8(row)?, delimiter).into_iter().enumerate() {
            let name = name.trim();
            // A second column of a name is another one, and is told of under its place.
            let is_new = !name.is_empty() && columns.iter().all(|column| column != name);
            let place = || format!("(column {}) {name}", index + 1).trim_end().to_owned();
            columns.push(if is_new { name.to_owned() } else { place() });
        }
        Ok(Self { columns, delimiter })
    }

    /// A row as a record of texts; `open_quote` where the file ended within quotation marks.
    pub(super) fn record(
        &self,
        row: &[u8],
        open_quote: bool,
    ) -> Result<Map<String, Value>, Located> {
        let fields = fields(utf8(row)?, self.delimiter);
        let (expected, actual) = (self.columns.len(), fields.len());
        if expected != actual || open_quote {
            return Err(Located::row(Fault::FieldCount { expected, actual, open_quote }));
        }
        let fields = self.columns.iter().cloned().zip(fields);
        // What a separator at the end of every line makes is no column.
        let fields =
            fields.filter(|(name, text)| !(name.starts_with("(column") && text.is_empty()));
        Ok(fields.map(|(name, text)| (name, Value::String(text))).collect())
    }
}
