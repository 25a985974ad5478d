//! Jinja's tests: `value is name(args)`.
//!
//! Source: jinja2's tests.py.

use minijinja::machinery::ast::BinOpKind;

use super::args::Args;
use super::error::TemplateError;
use super::filters;
use super::operators::{binary, contains};
use super::spell::str_of;
use super::text_methods;
use super::value::Value;

/// The tests, and how many arguments they take.
const TESTS: &[(&str, usize)] = &[
    ("boolean", 0),
    ("callable", 0),
    ("defined", 0),
    ("divisibleby", 1),
    ("escaped", 0),
    ("even", 0),
    ("false", 0),
    ("filter", 0),
    ("float", 0),
    ("in", 1),
    ("integer", 0),
    ("iterable", 0),
    ("lower", 0),
    ("mapping", 0),
    ("none", 0),
    ("number", 0),
    ("odd", 0),
    ("sameas", 1),
    ("sequence", 0),
    ("string", 0),
    ("test", 0),
    ("true", 0),
    ("undefined", 0),
    ("upper", 0),
];

/// The tests that are operators.
fn operator(name: &str) -> Option<BinOpKind> {
    Some(match name {
        "eq" | "equalto" | "==" => BinOpKind::Eq,
        "ne" | "!=" => BinOpKind::Ne,
        "lt" | "lessthan" | "<" => BinOpKind::Lt,
        "le" | "<=" => BinOpKind::Lte,
        "gt" | "greaterthan" | ">" => BinOpKind::Gt,
        "ge" | ">=" => BinOpKind::Gte,
        _ => return None,
    })
}

/// Whether there is a test called `name`.
pub(crate) fn exists(name: &str) -> bool {
    operator(name).is_some() || TESTS.iter().any(|(known, _)| *known == name)
}

/// `value is name(args)`.
///
/// # Errors
/// [`TemplateError`] where Jinja raises an exception.
pub(crate) fn call(name: &str, value: &Value, args: Args) -> Result<bool, TemplateError> {
    let operator = operator(name);
    let count = match (operator, TESTS.iter().find(|(known, _)| *known == name)) {
        (Some(_), _) => 1,
        (None, Some((_, count))) => *count,
        (None, None) => {
            return Err(TemplateError::Unsupported { construct: format!("test {name:?}") });
        }
    };
    if args.positional.len() != count || !args.named.is_empty() {
        return Err(TemplateError::operation(format!("is {name}: {count} arguments are expected")));
    }
    let other = args.positional.first().unwrap_or(&Value::None);
    if let Some(operator) = operator {
        return Ok(binary(operator, value, other)?.is_true());
    }
    let remainder = |by: &Value| binary(BinOpKind::Rem, value, by);
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => value.is_none(),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_)),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        // Texts and dicts have items as well, and so does what is undefined.
        "sequence" => value.length().is_ok() && !matches!(value, Value::Loop(_)),
        "iterable" => value.items().is_ok(),
        "callable" => {
            matches!(
                value,
                Value::Macro(_) | Value::Function(_) | Value::Method(..) | Value::Joiner(..)
            )
        }
        "sameas" => value.type_name() == other.type_name() && value.equals(other),
        "even" => remainder(&Value::Int(2))?.equals(&Value::Int(0)),
        "odd" => remainder(&Value::Int(2))?.equals(&Value::Int(1)),
        "divisibleby" => remainder(other)?.equals(&Value::Int(0)),
        "in" => contains(other, value)?,
        "lower" | "upper" => {
            text_methods::call(&str_of(value)?, &format!("is{name}"), Args::default())?.is_true()
        }
        "filter" => value.as_text().is_some_and(|name| filters::exists(&name.plain())),
        "test" => value.as_text().is_some_and(|name| exists(&name.plain())),
        // Nothing is escaped here.
        _ => false,
    })
}
