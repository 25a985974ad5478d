//! Python's operators.

use minijinja::machinery::ast::BinOpKind;

use super::error::TemplateError;
use super::printf;
use super::spell::str_of;
use super::text::{MAX_CHARACTERS, TextBuilder};
use super::value::Value;

type Outcome = Result<Value, TemplateError>;

/// The longest list that `*` makes.
const MAX_ITEMS: usize = 1 << 20;

/// `left op right`, for the operators that need both sides.
///
/// # Errors
/// [`TemplateError`] where Python raises an exception.
pub(crate) fn binary(op: BinOpKind, left: &Value, right: &Value) -> Outcome {
    match op {
        BinOpKind::Eq => return Ok(Value::Bool(left.equals(right))),
        BinOpKind::Ne => return Ok(Value::Bool(!left.equals(right))),
        BinOpKind::In => return contains(right, left).map(Value::Bool),
        BinOpKind::Concat => return concat(&[left.clone(), right.clone()]),
        _ => {}
    }
    for side in [left, right] {
        if let Value::Undefined(name) = side {
            return Err(TemplateError::Undefined { what: name.to_string() });
        }
    }
    match op {
        BinOpKind::Lt => Ok(Value::Bool(left.compare(right)?.is_lt())),
        BinOpKind::Lte => Ok(Value::Bool(left.compare(right)?.is_le())),
        BinOpKind::Gt => Ok(Value::Bool(left.compare(right)?.is_gt())),
        BinOpKind::Gte => Ok(Value::Bool(left.compare(right)?.is_ge())),
        BinOpKind::Add => add(left, right),
        BinOpKind::Mul => multiply(left, right),
        BinOpKind::Rem => match left {
            Value::Text(text) => printf::percent(text, right),
            _ => arithmetic(op, left, right),
        },
        _ => arithmetic(op, left, right),
    }
}

fn refused(op: &str, left: &Value, right: &Value) -> TemplateError {
    let (left, right) = (left.type_name(), right.type_name());
    TemplateError::operation(format!("unsupported operand types for {op}: {left} and {right}"))
}

fn too_large() -> TemplateError {
    TemplateError::operation("a number is too large")
}

/// `~`: both as texts, joined.
pub(crate) fn concat(values: &[Value]) -> Outcome {
    let mut out = TextBuilder::default();
    for value in values {
        out.text(&str_of(value)?);
    }
    out.finish().map(Value::Text)
}

pub(crate) fn add(left: &Value, right: &Value) -> Outcome {
    match (left, right) {
        (Value::Text(_), Value::Text(_)) => concat(&[left.clone(), right.clone()]),
        (Value::List(a), Value::List(b)) => Ok(Value::list([&a[..], &b[..]].concat())),
        (Value::Tuple(a), Value::Tuple(b)) => Ok(Value::tuple([&a[..], &b[..]].concat())),
        _ => arithmetic(BinOpKind::Add, left, right),
    }
}

fn multiply(left: &Value, right: &Value) -> Outcome {
    let (repeated, count) = match (left, right) {
        (Value::Text(_) | Value::List(_) | Value::Tuple(_), count) => (left, count),
        (count, Value::Text(_) | Value::List(_) | Value::Tuple(_)) => (right, count),
        _ => return arithmetic(BinOpKind::Mul, left, right),
    };
    let count = count.as_int().ok_or_else(|| refused("*", left, right))?;
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let most = if repeated.as_text().is_some() { MAX_CHARACTERS } else { MAX_ITEMS };
    let length = repeated.length()?;
    if length.checked_mul(count).is_none_or(|length| length > most) {
        return Err(TemplateError::TextTooLong { limit: most });
    }
    // Nothing, any number of times, is nothing.
    let count = if length == 0 { 0 } else { count };
    let many = |items: &[Value]| items.iter().cycle().take(length * count).cloned().collect();
    match repeated {
        Value::Text(text) => {
            let mut out = TextBuilder::default();
            for _ in 0..count {
                out.text(text);
            }
            out.finish().map(Value::Text)
        }
        Value::Tuple(items) => Ok(Value::tuple(many(items))),
        Value::List(items) => Ok(Value::list(many(items))),
        _ => Err(refused("*", left, right)),
    }
}

fn arithmetic(op: BinOpKind, left: &Value, right: &Value) -> Outcome {
    let symbol = match op {
        BinOpKind::Add => "+",
        BinOpKind::Sub => "-",
        BinOpKind::Mul => "*",
        BinOpKind::Div => "/",
        BinOpKind::FloorDiv => "//",
        BinOpKind::Rem => "%",
        _ => "**",
    };
    let refuse = || refused(symbol, left, right);
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int())
        && !matches!(op, BinOpKind::Div)
    {
        return integers(op, a, b);
    }
    let (a, b) = left.as_float().zip(right.as_float()).ok_or_else(refuse)?;
    let divides = matches!(op, BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem);
    if divides && b == 0.0 {
        return Err(TemplateError::operation("division by zero"));
    }
    Ok(Value::Float(match op {
        BinOpKind::Add => a + b,
        BinOpKind::Sub => a - b,
        BinOpKind::Mul => a * b,
        BinOpKind::Div => a / b,
        BinOpKind::FloorDiv => (a / b).floor(),
        BinOpKind::Rem => a - b * (a / b).floor(),
        _ => a.powf(b),
    }))
}

fn integers(op: BinOpKind, a: i128, b: i128) -> Outcome {
    let divides = matches!(op, BinOpKind::FloorDiv | BinOpKind::Rem);
    if divides && b == 0 {
        return Err(TemplateError::operation("division by zero"));
    }
    let floor = |a: i128, b: i128| {
        let quotient = a.checked_div(b)?;
        Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
    };
    let result = match op {
        BinOpKind::Add => a.checked_add(b),
        BinOpKind::Sub => a.checked_sub(b),
        BinOpKind::Mul => a.checked_mul(b),
        BinOpKind::FloorDiv => floor(a, b),
        BinOpKind::Rem => floor(a, b).and_then(|quotient| a.checked_sub(quotient.checked_mul(b)?)),
        _ if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
        _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    result.map(Value::Int).ok_or_else(too_large)
}

/// `-value`.
pub(crate) fn negate(value: &Value) -> Outcome {
    match value {
        Value::Float(number) => Ok(Value::Float(-number)),
        Value::Undefined(name) => Err(TemplateError::Undefined { what: name.to_string() }),
        other => match other.as_int() {
            Some(number) => number.checked_neg().map(Value::Int).ok_or_else(too_large),
            None => Err(TemplateError::operation(format!("- of {}", other.type_name()))),
        },
    }
}

/// `item in container`.
pub(crate) fn contains(container: &Value, item: &Value) -> Result<bool, TemplateError> {
    match container {
        Value::Text(text) => match item {
            Value::Text(part) => Ok(text.plain().contains(&part.plain())),
            other => Err(TemplateError::operation(format!("{} in str", other.type_name()))),
        },
        Value::List(items) | Value::Tuple(items) => Ok(items.iter().any(|one| one.equals(item))),
        Value::Dict(dict) => Ok(dict.get(item).is_some()),
        Value::Undefined(_) => Ok(false),
        other => Err(TemplateError::operation(format!("in {}", other.type_name()))),
    }
}

/// `value[start:stop:step]`, with `None` for what is left out.
pub(crate) fn slice(value: &Value, bounds: [Option<i128>; 3]) -> Outcome {
    let length = match value {
        Value::Text(_) | Value::List(_) | Value::Tuple(_) => value.length()? as i128,
        Value::Undefined(name) => {
            return Err(TemplateError::Undefined { what: name.to_string() });
        }
        other => return Err(TemplateError::operation(format!("a slice of {}", other.type_name()))),
    };
    let step = bounds[2].unwrap_or(1);
    if step == 0 {
        return Err(TemplateError::operation("slice step cannot be zero"));
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let bound = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(at) if at < 0 => at.saturating_add(length).clamp(low, high),
        Some(at) => at.clamp(low, high),
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (mut at, stop) = (bound(bounds[0], first), bound(bounds[1], last));
    let mut picked: Vec<usize> = Vec::new();
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        picked.push(usize::try_from(at).unwrap_or(0));
        at = at.saturating_add(step);
    }
    Ok(match value {
        Value::Text(text) if picked.len() == text.len() && step > 0 => Value::Text(text.clone()),
        Value::Text(text) => {
            let glyphs = picked.iter().filter_map(|&at| text.glyphs().get(at).copied());
            Value::Text(text.remains().of(glyphs.collect()))
        }
        Value::List(items) => Value::list(picked.iter().map(|&at| items[at].clone()).collect()),
        Value::Tuple(items) => Value::tuple(picked.iter().map(|&at| items[at].clone()).collect()),
        other => other.clone(),
    })
}

/// `value[key]` without the attributes: `None` where there is no such item.
pub(crate) fn item(value: &Value, key: &Value) -> Option<Value> {
    let at = |length: usize| {
        let index = key.as_int()?;
        let index = if index < 0 { index.checked_add(length as i128)? } else { index };
        usize::try_from(index).ok().filter(|&index| index < length)
    };
    match value {
        Value::Dict(dict) => dict.get(key).cloned(),
        Value::List(items) | Value::Tuple(items) => at(items.len()).map(|at| items[at].clone()),
        Value::Text(text) => at(text.len()).map(|at| Value::Text(text.part(at, at + 1))),
        Value::Namespace(names) => names.borrow().get(key).cloned(),
        _ => None,
    }
}
