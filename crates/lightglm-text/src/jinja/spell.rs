//! Values as Python spells them: `str`, `repr` and `json.dumps`.
//!
//! Source: CPython's Lib/json/encoder.py, `float.__repr__`, `str.__repr__`; `tojson` in transformers'
//! utils/chat_template_utils.py.

use std::fmt::Write;

use super::error::TemplateError;
use super::text::{Glyph, Text, TextBuilder};
use super::value::{Dict, Value};

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

/// `str(value)`: texts as they are, nothing for what is undefined, everything else as `repr`.
pub(crate) fn str_of(value: &Value) -> Result<Text, TemplateError> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Undefined(_) => Ok(Text::default()),
        other => repr_of(other),
    }
}

/// `repr(value)`.
pub(crate) fn repr_of(value: &Value) -> Result<Text, TemplateError> {
    let mut out = TextBuilder::default();
    write_repr(&mut out, value);
    out.finish()
}

fn write_repr(out: &mut TextBuilder, value: &Value) {
    match value {
        Value::Undefined(_) => out.str("Undefined"),
        Value::None => out.str("None"),
        Value::Bool(flag) => out.str(if *flag { "True" } else { "False" }),
        Value::Int(number) => out.str(&number.to_string()),
        Value::Float(number) => out.str(&float_repr(*number)),
        Value::Text(text) => write_repr_text(out, text),
        Value::List(items) => write_repr_items(out, items, "[", "]"),
        Value::Tuple(items) if items.len() == 1 => write_repr_items(out, items, "(", ",)"),
        Value::Tuple(items) => write_repr_items(out, items, "(", ")"),
        Value::Dict(dict) => {
            out.str("{");
            for (index, (key, value)) in dict.entries().iter().enumerate() {
                out.str(if index > 0 { ", " } else { "" });
                write_repr(out, key);
                out.str(": ");
                write_repr(out, value);
            }
            out.str("}");
        }
        other => out.str(&format!("<{}>", other.type_name())),
    }
}

fn write_repr_items(out: &mut TextBuilder, items: &[Value], open: &str, close: &str) {
    out.str(open);
    for (index, item) in items.iter().enumerate() {
        out.str(if index > 0 { ", " } else { "" });
        write_repr(out, item);
    }
    out.str(close);
}

fn write_repr_text(out: &mut TextBuilder, text: &Text) {
    let has = |wanted| text.chars().any(|character| character == wanted);
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    out.glyph(Glyph::template(quote));
    for glyph in text.glyphs() {
        let escaped = match glyph.character {
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            c if c == quote => format!("\\{c}"),
            c if u32::from(c) < 0x20 || (0x7F..0xA1).contains(&u32::from(c)) || c == '\u{AD}' => {
                format!("\\x{:02x}", u32::from(c))
            }
            c if is_unprintable(c) => match u32::from(c) {
                code @ 0..=0xFFFF => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            },
            _ => {
                out.glyph(*glyph);
                continue;
            }
        };
        out.str_from(&escaped, glyph.source);
    }
    out.glyph(Glyph::template(quote));
}

/// Separators, private use, and what formats without being seen; Python knows more of them (unassigned
/// characters).
fn is_unprintable(character: char) -> bool {
    let separates = character.is_whitespace() && character != ' ';
    let formats = matches!(character,
        '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    let is_private = matches!(u32::from(character), 0xE000..=0xF8FF | 0xF0000..=0x10_FFFF);
    separates || formats || is_private
}

/// `repr(float)`: the shortest digits, positional from 1e-4 up to 1e16.
pub(crate) fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "nan".to_owned();
    }
    if float.is_infinite() {
        return if float < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if float == 0.0 || (-4..16).contains(&exponent) {
        return format!("{float:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// `json.dumps(value)`.
///
/// # Errors
/// [`TemplateError::Operation`] where the value is no data.
pub(crate) fn json_of(value: &Value, style: &JsonStyle) -> Result<Text, TemplateError> {
    let mut out = TextBuilder::default();
    write_json(&mut out, value, style, 0)?;
    out.finish()
}

fn write_json(
    out: &mut TextBuilder,
    value: &Value,
    style: &JsonStyle,
    level: usize,
) -> Result<(), TemplateError> {
    match value {
        Value::None => out.str("null"),
        Value::Bool(flag) => out.str(if *flag { "true" } else { "false" }),
        Value::Int(number) => out.str(&number.to_string()),
        Value::Float(number) => out.str(&json_float(*number)),
        Value::Text(text) => write_json_text(out, text, style.ensure_ascii),
        Value::List(items) | Value::Tuple(items) => {
            out.str("[");
            for (index, item) in items.iter().enumerate() {
                separate(out, style, level + 1, index > 0);
                write_json(out, item, style, level + 1)?;
            }
            close(out, style, level, items.is_empty(), "]");
        }
        Value::Dict(dict) => {
            out.str("{");
            for (index, (key, item)) in sorted(dict, style)?.into_iter().enumerate() {
                separate(out, style, level + 1, index > 0);
                write_json_key(out, key, style)?;
                out.str(&style.key_separator);
                write_json(out, item, style, level + 1)?;
            }
            close(out, style, level, dict.entries().is_empty(), "}");
        }
        other => {
            let reason = format!("Object of type {} is not JSON serializable", other.type_name());
            return Err(TemplateError::operation(reason));
        }
    }
    Ok(())
}

fn json_float(number: f64) -> String {
    match number {
        number if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        number => float_repr(number),
    }
}

fn write_json_key(
    out: &mut TextBuilder,
    key: &Value,
    style: &JsonStyle,
) -> Result<(), TemplateError> {
    let text = match key {
        Value::Text(text) => text.clone(),
        Value::None => Text::template("null"),
        Value::Bool(flag) => Text::template(if *flag { "true" } else { "false" }),
        Value::Int(_) | Value::Float(_) => str_of(key)?,
        other => {
            let reason = format!("keys must be str, not {}", other.type_name());
            return Err(TemplateError::operation(reason));
        }
    };
    write_json_text(out, &text, style.ensure_ascii);
    Ok(())
}

fn sorted<'d>(
    dict: &'d Dict,
    style: &JsonStyle,
) -> Result<Vec<(&'d Value, &'d Value)>, TemplateError> {
    let mut entries: Vec<_> = dict.entries().iter().map(|(key, value)| (key, value)).collect();
    if style.sort_keys {
        let mut unordered = None;
        entries.sort_by(|(a, _), (b, _)| {
            a.compare(b).unwrap_or_else(|error| {
                unordered = Some(error);
                std::cmp::Ordering::Equal
            })
        });
        if let Some(error) = unordered {
            return Err(error);
        }
    }
    Ok(entries)
}

fn write_json_text(out: &mut TextBuilder, text: &Text, ensure_ascii: bool) {
    out.str("\"");
    let mut escaped = String::new();
    for Glyph { character, source } in text.glyphs() {
        escaped.clear();
        escape_json(&mut escaped, *character, ensure_ascii);
        out.str_from(&escaped, *source);
    }
    out.str("\"");
}

fn separate(out: &mut TextBuilder, style: &JsonStyle, level: usize, after_another: bool) {
    if after_another {
        out.str(&style.item_separator);
    }
    new_line(out, style, level);
}

fn close(out: &mut TextBuilder, style: &JsonStyle, level: usize, empty: bool, bracket: &str) {
    if !empty {
        new_line(out, style, level);
    }
    out.str(bracket);
}

fn new_line(out: &mut TextBuilder, style: &JsonStyle, level: usize) {
    if let Some(indent) = &style.indent {
        out.str("\n");
        for _ in 0..level {
            out.str(indent);
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let floats = [2.5, 1e16, 1e-5, 0.0001, -0.0].map(Value::Float);
        let value = Value::dict([
            (Value::str("b"), Value::list(floats.into())),
            (Value::str("a"), Value::str("é<\"\u{7f}\u{1}")),
        ]);
        let text = json_of(&value, &one_line()).unwrap().plain();
        let floats = "[2.5, 1e+16, 1e-05, 0.0001, -0.0]";
        assert_eq!(text, format!("{{\"b\": {floats}, \"a\": \"é<\\\"\u{7f}\\u0001\"}}"));
        let ascii = JsonStyle { ensure_ascii: true, sort_keys: true, ..one_line() };
        let value =
            Value::dict([(Value::str("b"), Value::str("😀")), (Value::str("a"), Value::dict([]))]);
        assert_eq!(json_of(&value, &ascii).unwrap().plain(), r#"{"a": {}, "b": "\ud83d\ude00"}"#);
    }

    #[test]
    fn values_print_as_in_python() {
        let one = Value::dict([(Value::str("k"), Value::Float(1.0))]);
        let items = vec![Value::None, Value::Bool(true), Value::str("it's"), one];
        let text = str_of(&Value::list(items)).unwrap().plain();
        assert_eq!(text, r#"[None, True, "it's", {'k': 1.0}]"#);
        assert_eq!(str_of(&Value::tuple(vec![Value::Int(1)])).unwrap().plain(), "(1,)");
    }
}
