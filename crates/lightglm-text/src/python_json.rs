//! Writes values as Python does: `json.dumps` for the `tojson` filter, `str` for `{{ }}`.
//!
//! Source: `_compile_jinja_template` in transformers' utils/chat_template_utils.py; CPython's
//! Lib/json/encoder.py and `float.__repr__`.

use std::fmt::Write;

use serde_json::{Map, Number, Value};

use crate::provenance::Disguise;

/// Options of `json.dumps`.
#[derive(Clone, Debug)]
pub(crate) struct JsonStyle {
    /// What one level is indented by; `None` writes one line.
    pub(crate) indent: Option<String>,
    pub(crate) item_separator: String,
    pub(crate) key_separator: String,
    pub(crate) ensure_ascii: bool,
    pub(crate) sort_keys: bool,
}

/// Writes values; strings may be disguised, and what escaping adds to them is disguised too.
pub(crate) struct PythonWriter<'a> {
    pub(crate) disguise: &'a Disguise,
}

impl PythonWriter<'_> {
    /// `json.dumps(value)`.
    pub(crate) fn json(&self, value: &Value, style: &JsonStyle) -> String {
        let mut out = String::new();
        self.write_json(&mut out, value, style, 0);
        out
    }

    fn write_json(&self, out: &mut String, value: &Value, style: &JsonStyle, level: usize) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => write_number(out, number),
            Value::String(text) => self.write_json_string(out, text, style.ensure_ascii),
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    separate(out, style, level + 1, index > 0);
                    self.write_json(out, item, style, level + 1);
                }
                close(out, style, level, items.is_empty(), ']');
            }
            Value::Object(map) => {
                out.push('{');
                for (index, (key, item)) in self.entries(map, style).into_iter().enumerate() {
                    separate(out, style, level + 1, index > 0);
                    self.write_json_string(out, key, style.ensure_ascii);
                    out.push_str(&style.key_separator);
                    self.write_json(out, item, style, level + 1);
                }
                close(out, style, level, map.is_empty(), '}');
            }
        }
    }

    fn entries<'m>(
        &self,
        map: &'m Map<String, Value>,
        style: &JsonStyle,
    ) -> Vec<(&'m String, &'m Value)> {
        let mut entries: Vec<_> = map.iter().collect();
        if style.sort_keys {
            entries.sort_by_key(|(key, _)| self.disguise.reveal(key).0);
        }
        entries
    }

    fn write_json_string(&self, out: &mut String, text: &str, ensure_ascii: bool) {
        out.push('"');
        self.write_escaped(out, text, |escaped, character| {
            escape_json(escaped, character, ensure_ascii);
        });
        out.push('"');
    }

    /// Escapes what is behind a stand-in, and hides the result again.
    fn write_escaped(&self, out: &mut String, text: &str, escape: impl Fn(&mut String, char)) {
        let mut escaped = String::new();
        for character in text.chars() {
            escaped.clear();
            match self.disguise.original(character) {
                Some(original) => {
                    escape(&mut escaped, original);
                    out.push_str(&self.disguise.hide(&escaped));
                }
                None => escape(out, character),
            }
        }
    }

    /// `str(value)`: texts as they are, everything else as `repr`.
    pub(crate) fn text(&self, value: &Value) -> String {
        match value {
            Value::String(text) => text.clone(),
            other => {
                let mut out = String::new();
                self.write_repr(&mut out, other);
                out
            }
        }
    }

    fn write_repr(&self, out: &mut String, value: &Value) {
        match value {
            Value::Null => out.push_str("None"),
            Value::Bool(flag) => out.push_str(if *flag { "True" } else { "False" }),
            Value::Number(number) => write_number(out, number),
            Value::String(text) => self.write_repr_string(out, text),
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    self.write_repr(out, item);
                }
                out.push(']');
            }
            Value::Object(map) => {
                out.push('{');
                for (index, (key, item)) in map.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    self.write_repr_string(out, key);
                    out.push_str(": ");
                    self.write_repr(out, item);
                }
                out.push('}');
            }
        }
    }

    fn write_repr_string(&self, out: &mut String, text: &str) {
        let plain = self.disguise.reveal(text).0;
        let quote = if plain.contains('\'') && !plain.contains('"') { '"' } else { '\'' };
        out.push(quote);
        self.write_escaped(out, text, |escaped, character| match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c == quote => escaped.extend(['\\', c]),
            c if u32::from(c) < 0x20 || (0x7F..0xA0).contains(&u32::from(c)) => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\x{:02x}", u32::from(c));
            }
            c => escaped.push(c),
        });
        out.push(quote);
    }
}

fn separate(out: &mut String, style: &JsonStyle, level: usize, after_another: bool) {
    if after_another {
        out.push_str(&style.item_separator);
    }
    new_line(out, style, level);
}

fn close(out: &mut String, style: &JsonStyle, level: usize, empty: bool, bracket: char) {
    if !empty {
        new_line(out, style, level);
    }
    out.push(bracket);
}

fn new_line(out: &mut String, style: &JsonStyle, level: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        for _ in 0..level {
            out.push_str(indent);
        }
    }
}

fn escape_json(out: &mut String, character: char, ensure_ascii: bool) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{C}' => out.push_str("\\f"),
        c if u32::from(c) < 0x20 || (ensure_ascii && !(' '..='~').contains(&c)) => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        c => out.push(c),
    }
}

fn write_number(out: &mut String, number: &Number) {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => write_float(out, float),
        // Writing to a String cannot fail.
        None => drop(write!(out, "{number}")),
    }
}

/// `repr(float)`: the shortest digits, positional from 1e-4 up to 1e16.
fn write_float(out: &mut String, float: f64) {
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Writing to a String cannot fail.
    let _ = if float == 0.0 || (-4..16).contains(&exponent) {
        write!(out, "{float:?}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one_line() -> JsonStyle {
        JsonStyle {
            indent: None,
            item_separator: ", ".to_owned(),
            key_separator: ": ".to_owned(),
            ensure_ascii: false,
            sort_keys: false,
        }
    }

    #[test]
    fn json_is_spelled_as_python_spells_it() {
        let disguise = Disguise::default();
        let writer = PythonWriter { disguise: &disguise };
        let value =
            json!({"b": [1, 2.5, 1e16, 1e-5, 0.0001, -0.0, true, null], "a": "é<\"\u{7f}\u{1}"});
        let text = writer.json(&value, &one_line());
        let expected = "{\"b\": [1, 2.5, 1e+16, 1e-05, 0.0001, -0.0, true, null], \"a\": \"é<\\\"\u{7f}\\u0001\"}";
        assert_eq!(text, expected);
        let ascii = JsonStyle { ensure_ascii: true, sort_keys: true, ..one_line() };
        let text = writer.json(&json!({"b": "😀", "a": {}}), &ascii);
        assert_eq!(text, r#"{"a": {}, "b": "\ud83d\ude00"}"#);
    }

    #[test]
    fn values_print_as_in_python() {
        let disguise = Disguise::default();
        let writer = PythonWriter { disguise: &disguise };
        let value = json!([null, true, "it's", {"k": 1.0}]);
        assert_eq!(writer.text(&value), r#"[None, True, "it's", {'k': 1.0}]"#);
    }
}
