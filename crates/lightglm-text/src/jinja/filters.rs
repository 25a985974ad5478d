//! Jinja's filters.
//!
//! Source: jinja2's filters.py; `tojson` in transformers' utils/chat_template_utils.py.

use super::args::{Args, Bound};
use super::attributes;
use super::error::TemplateError;
use super::list_filters;
use super::operators;
use super::printf;
use super::spell::{JsonStyle, json_of, str_of};
use super::text::{Glyph, Text, TextBuilder};
use super::text_methods::{self, Ends, strip};
use super::value::Value;

type Outcome = Result<Value, TemplateError>;

/// The widest `indent` of `tojson`, in characters.
const MAX_INDENT: usize = 64;

/// The filters of single values, and the names of their parameters.
const FILTERS: &[(&str, &[&str])] = &[
    ("abs", &[]),
    ("attr", &["name"]),
    ("capitalize", &[]),
    ("center", &["width"]),
    ("count", &[]),
    ("d", &["default_value", "boolean"]),
    ("default", &["default_value", "boolean"]),
    ("e", &[]),
    ("escape", &[]),
    ("float", &["default"]),
    ("forceescape", &[]),
    ("indent", &["width", "first", "blank"]),
    ("int", &["default", "base"]),
    ("length", &[]),
    ("lower", &[]),
    ("replace", &["old", "new", "count"]),
    ("round", &["precision", "method"]),
    ("safe", &[]),
    ("string", &[]),
    ("title", &[]),
    ("tojson", &["ensure_ascii", "indent", "separators", "sort_keys"]),
    ("trim", &["chars"]),
    ("truncate", &["length", "killwords", "end", "leeway"]),
    ("upper", &[]),
    ("wordcount", &[]),
];

/// Whether there is a filter called `name`.
pub(crate) fn exists(name: &str) -> bool {
    name == "format"
        || list_filters::exists(name)
        || FILTERS.iter().any(|(known, _)| *known == name)
}

/// `value | name(args)`.
///
/// # Errors
/// [`TemplateError`] where Jinja raises an exception.
pub(crate) fn call(name: &str, value: &Value, args: Args) -> Outcome {
    if list_filters::exists(name) {
        return list_filters::call(name, value, args);
    }
    if name == "format" {
        let values = match args.named.is_empty() {
            true => Value::tuple(args.positional),
            false => Value::dict(args.named.into_iter().map(|(k, v)| (Value::Text(k), v))),
        };
        return printf::percent(&str_of(value)?, &values);
    }
    let Some((_, parameters)) = FILTERS.iter().find(|(known, _)| *known == name) else {
        return Err(TemplateError::Unsupported { construct: format!("filter {name:?}") });
    };
    let args = args.bind(name, parameters)?;
    match name {
        "default" | "d" => {
            let missing = value.is_undefined() || (args.flag(1) && !value.is_true());
            let default = || args.value(0).cloned().unwrap_or_else(|| Value::str(""));
            Ok(if missing { default() } else { value.clone() })
        }
        "tojson" => to_json(value, &args),
        "attr" => attributes::attribute_only(value, &args.text(0)?.plain()),
        "length" | "count" => value.length().map(Value::count),
        "abs" => absolute(value),
        "int" => int(value, &args),
        "float" => float(value, &args),
        "round" => round(value, &args),
        "safe" | "string" => str_of(value).map(Value::Text),
        _ => of_text(name, &str_of(value)?, &args),
    }
}

/// Filters that take everything for text.
fn of_text(name: &str, text: &Text, args: &Bound) -> Outcome {
    let method = |name: &str| text_methods::call(text, name, Args::default());
    match name {
        "trim" => Ok(Value::Text(strip(text, args.optional_text(0)?, Ends::Both))),
        "lower" | "upper" | "capitalize" => method(name),
        "title" => Ok(Value::Text(title(text))),
        "center" => {
            let width = Value::count(args.count(0, 80)?);
            let args = Args { positional: vec![width], named: Vec::new() };
            text_methods::call(text, name, args)
        }
        "replace" => {
            let (old, new) = (str_of(args.required(0)?)?, str_of(args.required(1)?)?);
            text_methods::replace(text, &old, &new, args.optional_int(2)?)
        }
        "indent" => indent(text, args),
        "truncate" => truncate(text, args),
        "wordcount" => {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let plain = text.plain();
            let words = plain.split(|c| !is_word(c)).filter(|word| !word.is_empty());
            Ok(Value::count(words.count()))
        }
        _ => escape(text),
    }
}

fn absolute(value: &Value) -> Outcome {
    match (value, value.as_int()) {
        (Value::Float(number), _) => Ok(Value::Float(number.abs())),
        (_, Some(number)) => Ok(Value::Int(number.saturating_abs())),
        _ => Err(TemplateError::operation(format!("abs of {}", value.type_name()))),
    }
}

fn int(value: &Value, args: &Bound) -> Outcome {
    let base = u32::try_from(args.optional_int(1)?.unwrap_or(10)).unwrap_or(10);
    let default = || args.value(0).cloned().unwrap_or(Value::Int(0));
    let of_float = |number: f64| number.is_finite().then_some(number.trunc() as i128);
    let number = match value {
        Value::Float(number) => of_float(*number),
        Value::Text(text) => {
            let text = text.plain().trim().replace('_', "").to_lowercase();
            let prefix = match base {
                2 => "0b",
                8 => "0o",
                16 => "0x",
                _ => "",
            };
            let digits = text.strip_prefix(prefix).unwrap_or(&text);
            let whole = (2..=36).contains(&base).then(|| i128::from_str_radix(digits, base).ok());
            whole.flatten().or_else(|| text.parse().ok().and_then(of_float))
        }
        other => other.as_int(),
    };
    Ok(number.map_or_else(default, Value::Int))
}

fn float(value: &Value, args: &Bound) -> Outcome {
    let number = match value {
        Value::Text(text) => text.plain().trim().parse().ok(),
        other => other.as_float(),
    };
    let default = || args.value(0).cloned().unwrap_or(Value::Float(0.0));
    Ok(number.map_or_else(default, Value::Float))
}

fn round(value: &Value, args: &Bound) -> Outcome {
    let precision = args.optional_int(0)?.unwrap_or(0).clamp(-300, 300) as i32;
    let method = args.optional_text(1)?.map_or_else(|| "common".to_owned(), Text::plain);
    let number = value.as_float();
    let number = number
        .ok_or_else(|| TemplateError::operation(format!("round of {}", value.type_name())))?;
    let scale = 10f64.powi(precision);
    Ok(match method.as_str() {
        "ceil" => Value::Float((number * scale).ceil() / scale),
        "floor" => Value::Float((number * scale).floor() / scale),
        "common" if value.as_int().is_some() && precision >= 0 => value.clone(),
        // The nearest decimal, ties to even, as the digits say it.
        "common" if precision >= 0 => {
            let digits = format!("{number:.*}", precision.unsigned_abs() as usize);
            Value::Float(digits.parse().unwrap_or(number))
        }
        "common" => Value::Float((number * scale).round_ties_even() / scale),
        _ => return Err(TemplateError::operation("method must be common, ceil or floor")),
    })
}

/// Jinja's `title`, which begins a word after white space, hyphens and opening brackets only.
fn title(text: &Text) -> Text {
    let mut begins = true;
    text.map_chars(|c| {
        let mapped: Vec<char> =
            if begins { c.to_uppercase().collect() } else { c.to_lowercase().collect() };
        begins = text_methods::is_space(c) || "-({[<".contains(c);
        mapped
    })
}

fn escape(text: &Text) -> Outcome {
    let mut out = TextBuilder::default();
    for &glyph in text.glyphs() {
        match glyph.character {
            '&' => out.str_from("&amp;", glyph.source),
            '<' => out.str_from("&lt;", glyph.source),
            '>' => out.str_from("&gt;", glyph.source),
            '"' => out.str_from("&#34;", glyph.source),
            '\'' => out.str_from("&#39;", glyph.source),
            _ => out.glyph(glyph),
        }
    }
    out.finish().map(Value::Text)
}

fn indent(text: &Text, args: &Bound) -> Outcome {
    let width = match args.present(0) {
        Some(Value::Text(text)) => text.clone(),
        _ => {
            let mut spaces = TextBuilder::default();
            spaces.fill(Glyph::template(' '), args.count(0, 4)?);
            spaces.finish()?
        }
    };
    let mut out = TextBuilder::default();
    if args.flag(1) {
        out.text(&width);
    }
    // Jinja's quirk: the text gets one more line break, so that its last line counts as one.
    let whole = operators::concat(&[Value::Text(text.clone()), Value::str("\n")])?;
    let lines = text_methods::call(whole.as_text().unwrap_or(text), "splitlines", Args::default())?;
    for (index, line) in lines.items()?.iter().filter_map(Value::as_text).enumerate() {
        if index > 0 {
            out.str("\n");
            if args.flag(2) || !line.is_empty() {
                out.text(&width);
            }
        }
        out.glyphs(line.glyphs());
    }
    out.finish().map(Value::Text)
}

fn truncate(text: &Text, args: &Bound) -> Outcome {
    let length = args.count(0, 255)?;
    let end = args.optional_text(2)?.cloned().unwrap_or_else(|| Text::template("..."));
    if text.len() <= length.saturating_add(args.count(3, 5)?) {
        return Ok(Value::Text(text.clone()));
    }
    let mut kept = text.part(0, length.saturating_sub(end.len()));
    if !args.flag(1)
        && let Some(space) = kept.glyphs().iter().rposition(|glyph| glyph.character == ' ')
    {
        kept = kept.part(0, space);
    }
    operators::concat(&[Value::Text(kept), Value::Text(end)])
}

fn to_json(value: &Value, args: &Bound) -> Outcome {
    let indent = match args.present(1) {
        None => None,
        Some(Value::Text(text)) => Some(text.plain()),
        Some(_) => Some(" ".repeat(args.count(1, 0)?.min(MAX_INDENT + 1))),
    };
    if indent.as_ref().is_some_and(|indent| indent.len() > MAX_INDENT) {
        return Err(TemplateError::operation("tojson: the indent is too wide"));
    }
    let default_item_separator = if indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) = match args.present(2) {
        None => (default_item_separator.to_owned(), ": ".to_owned()),
        Some(pair) => match &pair.items()?[..] {
            [Value::Text(item), Value::Text(key)] => (item.plain(), key.plain()),
            _ => return Err(TemplateError::operation("tojson: separators are two texts")),
        },
    };
    let style = JsonStyle {
        indent,
        item_separator,
        key_separator,
        ensure_ascii: args.flag(0),
        sort_keys: args.flag(3),
    };
    json_of(value, &style).map(Value::Text)
}
