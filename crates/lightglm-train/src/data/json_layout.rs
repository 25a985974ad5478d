//! `layout_of`: how rows stand in a JSON file that begins with an object.
//!
//! The object is a row, or it holds the rows: `{"data": [{...}, ...]}`, `{"0": {...}, "1": {...}}`, or
//! columns, `{"question": [...], "answer": [...]}`. It is told by the file's beginning: which fields the
//! object has and what they begin with.

use super::container::JsonList;
use super::format::DataFormat;
use super::json_texts::JsonTexts;
use super::names::{LISTS, is_known_name, known_columns};
use super::options::Columns;

/// How rows stand in a JSON file that begins with an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonLayout {
    /// An object a line.
    Lines,
    /// Objects that go on over lines.
    Values,
    /// Rows between brackets.
    List(JsonList),
    /// Lists of values, one a column.
    Columns,
}

/// The layout of a file that begins with `head`, an object's brace first, and in which questions and
/// answers are in `columns`, where they have names of their own.
pub(super) fn layout_of(head: &[u8], columns: Option<&Columns>) -> JsonLayout {
    let is_named = |name: &str| {
        columns
            .is_some_and(|columns| [&columns.question, &columns.answer].iter().any(|c| *c == name))
    };
    let is_known = |name: &str| is_known_name(name) || is_named(name);
    let is_row = |object: &[u8]| {
        let names = field_names(object);
        let known = known_columns(&names);
        let has = |name: &str| known.iter().any(|field| field == name);
        has("text") || DataFormat::whole(has).is_some() || names.iter().any(|name| is_named(name))
    };
    let mut scanner = Scanner { head, at: 1 };
    let (mut before, mut rows) = (Vec::new(), None);
    while let Some(field) = scanner.next_field() {
        let rest = &head[field.value..];
        let inner = rest.get(1..).unwrap_or_default().trim_ascii_start();
        match (rest.first(), inner.first()) {
            // What has a row's fields is a row, whatever else it has.
            _ if is_known(&field.name) => {
                rows = (before.is_empty() && rows.is_none() && field.is_column(inner))
                    .then_some(JsonLayout::Columns);
                break;
            }
            (Some(b'['), Some(b'{')) if rows.is_none() && is_row(inner) => {
                let (skip, within) = (field.value + 1, Some(field.name));
                let before = before.clone();
                rows = Some(JsonLayout::List(JsonList { skip, close: b']', within, before }));
            }
            (Some(b'{'), Some(b'"')) if rows.is_none() && before.is_empty() && is_row(rest) => {
                let list = JsonList { skip: 1, close: b'}', within: None, before: Vec::new() };
                return JsonLayout::List(list);
            }
            _ => before.push(field.name),
        }
        if !scanner.skip_value(field.value) {
            break;
        }
    }
    let lines = || if goes_on(head) { JsonLayout::Values } else { JsonLayout::Lines };
    rows.unwrap_or_else(lines)
}

/// The names of the fields of the object at the beginning, as far as it reaches.
fn field_names(object: &[u8]) -> Vec<String> {
    let mut scanner = Scanner { head: object, at: 1 };
    let mut names = Vec::new();
    while let Some(field) = scanner.next_field() {
        let value = field.value;
        names.push(field.name);
        if !scanner.skip_value(value) {
            break;
        }
    }
    names
}

/// Whether the object on the first line goes on on the next: no row that is merely broken, which would
/// take the next ones with it.
fn goes_on(head: &[u8]) -> bool {
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else { return false };
    let first = head[..end].trim_ascii_end();
    matches!(first.last(), Some(b'{' | b'[' | b',' | b':')) && !is_balanced(first)
}

/// Whether every bracket outside of texts is closed.
fn is_balanced(line: &[u8]) -> bool {
    let (mut depth, mut texts) = (0_i64, JsonTexts::default());
    for &byte in line {
        match byte {
            _ if !texts.is_outside(byte) => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    depth <= 0
}

/// Goes through an object's fields, as far as its beginning reaches.
struct Scanner<'a> {
    head: &'a [u8],
    at: usize,
}

/// A field's name, and where its value begins.
struct Field {
    name: String,
    value: usize,
    /// The value's first byte.
    bracket: u8,
}

impl Field {
    /// Whether its value, which goes on as `inner` behind its first bracket, is a column: a list of texts
    /// or numbers, or an object of them by their indices. Rows have lists of texts in other fields, and
    /// messages begin otherwise.
    fn is_column(&self, inner: &[u8]) -> bool {
        match self.bracket {
            b'[' => {
                let begins = matches!(inner.first(), Some(b'"' | b'n' | b'0'..=b'9'));
                begins && !LISTS.contains(&self.name.as_str())
            }
            b'{' => inner.starts_with(b"\"0\""),
            _ => false,
        }
    }
}

impl Scanner<'_> {
    fn skip_blanks(&mut self) {
        let rest = self.head.get(self.at..).unwrap_or_default();
        self.at += rest.len() - rest.trim_ascii_start().len();
    }

    fn next_field(&mut self) -> Option<Field> {
        self.skip_blanks();
        if self.head.get(self.at) == Some(&b',') {
            self.at += 1;
            self.skip_blanks();
        }
        if self.head.get(self.at) != Some(&b'"') {
            return None;
        }
        let start = self.at;
        if !self.skip_text() {
            return None;
        }
        let name: String = serde_json::from_slice(&self.head[start..self.at]).ok()?;
        self.skip_blanks();
        if self.head.get(self.at) != Some(&b':') {
            return None;
        }
        self.at += 1;
        self.skip_blanks();
        let bracket = *self.head.get(self.at)?;
        Some(Field { name, value: self.at, bracket })
    }

    /// Passes over a text; false where it does not end in the head.
    fn skip_text(&mut self) -> bool {
        let mut escaped = false;
        for (index, byte) in self.head.iter().enumerate().skip(self.at + 1) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    self.at = index + 1;
                    return true;
                }
                _ => {}
            }
        }
        false
    }

    /// Passes over the value at `start`; false where it does not end in the head.
    fn skip_value(&mut self, start: usize) -> bool {
        self.at = start;
        let mut depth = 0_usize;
        while let Some(byte) = self.head.get(self.at) {
            match byte {
                b'"' => {
                    if !self.skip_text() {
                        return false;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return true,
                b'}' | b']' => depth -= 1,
                b',' if depth == 0 => return true,
                _ => {}
            }
            self.at += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(skip: usize, close: u8, within: Option<&str>, before: &[&str]) -> JsonLayout {
        let before = before.iter().map(|name| (*name).to_owned()).collect();
        let within = within.map(str::to_owned);
        JsonLayout::List(JsonList { skip, close, within, before })
    }

    #[test]
    fn layouts() {
        for (head, expected) in [
            (r#"{"question": "a", "answer": "b"}"#, JsonLayout::Lines),
            (r#"{"id": 1, "messages": [{"role": "user"}]}"#, JsonLayout::Lines),
            (r#"{"id": {"a": "b"}, "tags": ["x"], "text": "c"}"#, JsonLayout::Lines),
            ("{\n  \"question\": \"a\",\n  \"answer\": \"b\"\n}\n{", JsonLayout::Values),
            ("{\"messages\": [\n{\"role\"", JsonLayout::Values),
            // Broken, and the next row is not to go with it.
            ("{\"messages\": [{\"role\": \"user\"\n{\"messages\"", JsonLayout::Lines),
            (r#"{"data": [{"question": "a", "answer": "b"}"#, list(10, b']', Some("data"), &[])),
            (
                "{\"version\": 1,\n \"rows\": [\n {\"text\": \"\"}",
                list(25, b']', Some("rows"), &["version"]),
            ),
            (r#"{"a": {"question": "x", "answer": "y"}, "b""#, list(1, b'}', None, &[])),
            (r#"{"question": ["a", "b"], "answer": ["c", "d"]}"#, JsonLayout::Columns),
            (r#"{"question": {"0": "a"}, "answer": {"0": "c"}}"#, JsonLayout::Columns),
            (r#"{"prompt": [{"role": "user"}], "completion": []}"#, JsonLayout::Lines),
            (
                r#"{"documents": [{"content": "c"}], "question": "a", "answer": "b"}"#,
                JsonLayout::Lines,
            ),
            (r#"{"images": ["a.jpg"], "messages": [{"role": "user"}]}"#, JsonLayout::Lines),
            ("{", JsonLayout::Lines),
        ] {
            assert_eq!(layout_of(head.as_bytes(), None), expected, "{head}");
        }
    }
}
