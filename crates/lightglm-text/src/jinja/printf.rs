//! `%` on texts and `str.format`.
//!
//! Source: "printf-style String Formatting" and "Format String Syntax" in Python's documentation.

use super::args::Args;
use super::error::TemplateError;
use super::operators::item;
use super::spell::{float_repr, repr_of, str_of};
use super::text::{Glyph, MAX_CHARACTERS, SourceId, Text, TextBuilder};
use super::value::Value;

type Outcome = Result<Value, TemplateError>;

/// How one value is written.
#[derive(Debug, Default)]
struct Spec {
    fill: Option<char>,
    /// Who wrote the format.
    source: SourceId,
    /// `<`, `>`, `^` or `=`.
    align: Option<char>,
    plus: bool,
    space: bool,
    alternate: bool,
    comma: bool,
    width: usize,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Spec {
    fn filling(&self) -> Glyph {
        Glyph { character: self.fill.unwrap_or(' '), source: self.source }
    }
}

fn refused(reason: &str) -> TemplateError {
    TemplateError::operation(reason)
}

/// `text % value`.
///
/// # Errors
/// [`TemplateError::Operation`] where Python raises an exception.
pub(crate) fn percent(text: &Text, value: &Value) -> Outcome {
    let values: Vec<Value> = match value {
        Value::Tuple(items) => items.to_vec(),
        other => vec![other.clone()],
    };
    let mut used = 0;
    let mut out = TextBuilder::default();
    let mut rest = text.glyphs();
    while let [glyph, after @ ..] = rest {
        rest = after;
        if glyph.character != '%' {
            out.glyph(*glyph);
            continue;
        }
        let mut key = None;
        if let [Glyph { character: '(', .. }, after @ ..] = rest {
            let end = after.iter().position(|glyph| glyph.character == ')');
            let end = end.ok_or_else(|| refused("incomplete format key"))?;
            key = Some(after[..end].iter().map(|glyph| glyph.character).collect::<String>());
            rest = &after[end + 1..];
        }
        let mut next = || {
            used += 1;
            values
                .get(used - 1)
                .cloned()
                .ok_or_else(|| refused("not enough arguments for format string"))
        };
        let mut spec = percent_spec(&mut rest, &mut next)?;
        spec.source = glyph.source;
        if spec.kind == Some('%') {
            out.glyph(*glyph);
            continue;
        }
        let value = match key {
            Some(key) => {
                item(value, &Value::str(&key)).ok_or_else(|| refused("no such format key"))?
            }
            None => next()?,
        };
        write_percent(&mut out, &value, spec)?;
    }
    if used < values.len() && !matches!(value, Value::Dict(_)) {
        return Err(refused("not all arguments converted during string formatting"));
    }
    out.finish().map(Value::Text)
}

fn percent_spec(
    rest: &mut &[Glyph],
    next: &mut impl FnMut() -> Result<Value, TemplateError>,
) -> Result<Spec, TemplateError> {
    let mut spec = Spec::default();
    while let Some(flag) = take(rest, |c| "#0- +".contains(c)) {
        match flag {
            '#' => spec.alternate = true,
            '0' => spec.fill = Some('0'),
            '-' => spec.align = Some('<'),
            ' ' => spec.space = true,
            _ => spec.plus = true,
        }
    }
    let mut number = |rest: &mut &[Glyph]| match take(rest, |c| c == '*') {
        Some(_) => {
            let value = next()?.as_int().ok_or_else(|| refused("* wants int"))?;
            Ok(Some(usize::try_from(value.max(0)).unwrap_or(usize::MAX)))
        }
        None => digits(rest),
    };
    spec.width = number(rest)?.unwrap_or(0);
    if take(rest, |c| c == '.').is_some() {
        spec.precision = Some(number(rest)?.unwrap_or(0));
    }
    while take(rest, |c| "hlL".contains(c)).is_some() {}
    spec.kind = take(rest, |_| true);
    if spec.kind.is_none() {
        return Err(refused("incomplete format"));
    }
    Ok(spec)
}

fn write_percent(
    out: &mut TextBuilder,
    value: &Value,
    mut spec: Spec,
) -> Result<(), TemplateError> {
    let mut text = match spec.kind {
        Some('s') => str_of(value)?,
        Some('r' | 'a') => repr_of(value)?,
        Some('c') => match value {
            Value::Text(text) if text.len() == 1 => text.clone(),
            _ => return Err(refused("%c requires int or char")),
        },
        Some('d' | 'i' | 'u') => {
            let number = match value {
                Value::Float(number) if number.is_finite() => Value::Int(number.trunc() as i128),
                other => other.clone(),
            };
            spec.kind = Some('d');
            return write_number(out, &number, spec);
        }
        Some('f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'x' | 'X' | 'o') => {
            return write_number(out, value, spec);
        }
        _ => return Err(refused("unsupported format character")),
    };
    if let Some(precision) = spec.precision {
        text = text.part(0, precision.min(text.len()));
    }
    spec.align = spec.align.or(Some('>'));
    spec.fill = None;
    pad(out, &text, &spec)
}

/// `text.format(args)`.
///
/// # Errors
/// [`TemplateError::Operation`] where Python raises an exception.
pub(crate) fn format(text: &Text, args: &Args) -> Outcome {
    let mut out = TextBuilder::default();
    let mut automatic = 0;
    let mut rest = text.glyphs();
    while let [glyph, after @ ..] = rest {
        rest = after;
        match (glyph.character, after.first().map(|next| next.character)) {
            ('{', Some('{')) | ('}', Some('}')) => {
                out.glyph(*glyph);
                rest = &after[1..];
            }
            ('}', _) => return Err(refused("single '}' in format string")),
            ('{', _) => {
                let end = after.iter().position(|glyph| glyph.character == '}');
                let end = end.ok_or_else(|| refused("expected '}' before end of string"))?;
                let field: String = after[..end].iter().map(|glyph| glyph.character).collect();
                rest = &after[end + 1..];
                write_field(&mut out, (&field, glyph.source), args, &mut automatic)?;
            }
            _ => out.glyph(*glyph),
        }
    }
    out.finish().map(Value::Text)
}

fn write_field(
    out: &mut TextBuilder,
    (field, source): (&str, SourceId),
    args: &Args,
    automatic: &mut usize,
) -> Result<(), TemplateError> {
    let (name, spec) = field.split_once(':').unwrap_or((field, ""));
    let (name, conversion) = match name.split_once('!') {
        Some((name, conversion)) => (name, Some(conversion)),
        None => (name, None),
    };
    let head_end = name.find(['.', '[']).unwrap_or(name.len());
    let (head, path) = name.split_at(head_end);
    let mut value = if head.is_empty() {
        *automatic += 1;
        args.positional.get(*automatic - 1).cloned()
    } else if let Ok(index) = head.parse::<usize>() {
        args.positional.get(index).cloned()
    } else {
        args.named.iter().find(|(name, _)| name.is(head)).map(|(_, value)| value.clone())
    }
    .ok_or_else(|| refused("str.format: no such argument"))?;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let step = step.trim_end_matches(']');
        let key = step.parse().map_or_else(|_| Value::str(step), Value::Int);
        value = item(&value, &key).ok_or_else(|| refused("str.format: no such item"))?;
    }
    let value = match conversion {
        Some("r" | "a") => Value::Text(repr_of(&value)?),
        Some("s") => Value::Text(str_of(&value)?),
        None => value,
        Some(_) => return Err(refused("str.format: unknown conversion")),
    };
    write_spec(out, &value, Spec { source, ..format_spec(spec)? })
}

fn format_spec(text: &str) -> Result<Spec, TemplateError> {
    let text = Text::template(text);
    let mut rest = text.glyphs();
    let mut spec = Spec::default();
    let is_align = |glyph: &Glyph| "<>^=".contains(glyph.character);
    if rest.get(1).is_some_and(is_align) {
        spec.fill = rest.first().map(|glyph| glyph.character);
        rest = &rest[1..];
    }
    spec.align = take(&mut rest, |c| "<>^=".contains(c));
    match take(&mut rest, |c| "+- ".contains(c)) {
        Some('+') => spec.plus = true,
        Some(' ') => spec.space = true,
        _ => {}
    }
    spec.alternate = take(&mut rest, |c| c == '#').is_some();
    if take(&mut rest, |c| c == '0').is_some() {
        spec.fill = spec.fill.or(Some('0'));
        spec.align = spec.align.or(Some('='));
    }
    spec.width = digits(&mut rest)?.unwrap_or(0);
    spec.comma = take(&mut rest, |c| c == ',').is_some();
    if take(&mut rest, |c| c == '.').is_some() {
        spec.precision = digits(&mut rest)?;
    }
    spec.kind = take(&mut rest, |_| true);
    if !rest.is_empty() {
        return Err(refused("invalid format specifier"));
    }
    Ok(spec)
}

fn write_spec(out: &mut TextBuilder, value: &Value, spec: Spec) -> Result<(), TemplateError> {
    let is_number = matches!(value, Value::Int(_) | Value::Float(_))
        || (matches!(value, Value::Bool(_)) && spec.kind.is_some());
    if is_number && spec.kind != Some('s') {
        return write_number(out, value, spec);
    }
    let mut text = str_of(value)?;
    if let Some(precision) = spec.precision {
        text = text.part(0, precision.min(text.len()));
    }
    pad(out, &text, &spec)
}

fn write_number(out: &mut TextBuilder, value: &Value, spec: Spec) -> Result<(), TemplateError> {
    let wrong = || refused("a number is required to format as one");
    let precision = spec.precision.unwrap_or(6);
    if precision > MAX_CHARACTERS {
        return Err(TemplateError::TextTooLong { limit: MAX_CHARACTERS });
    }
    let whole = || value.as_int().ok_or_else(wrong);
    let float = || value.as_float().ok_or_else(wrong);
    let (negative, mut digits) = match spec.kind {
        Some('x') => (whole()? < 0, format!("{:x}", whole()?.unsigned_abs())),
        Some('X') => (whole()? < 0, format!("{:X}", whole()?.unsigned_abs())),
        Some('o') => (whole()? < 0, format!("{:o}", whole()?.unsigned_abs())),
        Some('b') => (whole()? < 0, format!("{:b}", whole()?.unsigned_abs())),
        Some('f' | 'F') => (float()?.is_sign_negative(), format!("{:.precision$}", float()?.abs())),
        Some('%') => (float()? < 0.0, format!("{:.precision$}%", (float()? * 100.0).abs())),
        Some('d') => (whole()? < 0, whole()?.unsigned_abs().to_string()),
        None => match value {
            Value::Float(number) if spec.precision.is_none() => {
                (number.is_sign_negative(), float_repr(number.abs()))
            }
            Value::Float(_) => return Err(refused("this format of a float is not supported")),
            _ => (whole()? < 0, whole()?.unsigned_abs().to_string()),
        },
        Some(kind) => {
            return Err(refused(&format!("the format {kind:?} of numbers is not supported")));
        }
    };
    if spec.comma {
        digits = with_commas(&digits);
    }
    let sign = match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let fills = matches!((spec.fill, spec.align), (Some('0'), None | Some('=')) | (_, Some('=')));
    if fills {
        out.str(sign);
        out.fill(spec.filling(), spec.width.saturating_sub(sign.len() + digits.len()));
        out.str(&digits);
        return Ok(());
    }
    let align = spec.align.or(Some('>'));
    pad(out, &Text::template(&format!("{sign}{digits}")), &Spec { align, ..spec })
}

fn with_commas(digits: &str) -> String {
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let mut out = String::new();
    for (index, digit) in digits[..end].chars().enumerate() {
        if index > 0 && (end - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + &digits[end..]
}

fn pad(out: &mut TextBuilder, text: &Text, spec: &Spec) -> Result<(), TemplateError> {
    let missing = spec.width.saturating_sub(text.len());
    let left = match spec.align {
        Some('>') => missing,
        Some('^') => missing / 2,
        Some('=') => return Err(refused("'=' alignment not allowed in string format specifier")),
        _ => 0,
    };
    let fill = spec.filling();
    out.fill(fill, left);
    out.text(text);
    out.fill(fill, missing - left);
    Ok(())
}

fn take(rest: &mut &[Glyph], wanted: impl Fn(char) -> bool) -> Option<char> {
    let (first, after) = rest.split_first()?;
    if !wanted(first.character) {
        return None;
    }
    *rest = after;
    Some(first.character)
}

fn digits(rest: &mut &[Glyph]) -> Result<Option<usize>, TemplateError> {
    let mut text = String::new();
    while let Some(digit) = take(rest, |c| c.is_ascii_digit()) {
        text.push(digit);
    }
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| refused("too many decimal digits in format string"))
}
