//! Attributes and items: `value.name`, `value[key]`, and the methods behind them.
//!
//! Source: `Environment.getattr` and `getitem` in jinja2's environment.py.

use super::args::Args;
use super::error::TemplateError;
use super::operators;
use super::text_methods;
use super::value::{LoopState, Value};

type Outcome = Result<Value, TemplateError>;

/// The methods of dicts and of lists.
const DICT_METHODS: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const LIST_METHODS: [&str; 2] = ["count", "index"];
/// Methods that change what they belong to, which transformers' sandbox refuses to call.
const CHANGING: [&str; 7] = ["clear", "pop", "popitem", "setdefault", "update", "append", "extend"];

/// Methods that Python's texts and numbers have and that are not run here.
pub(crate) const OTHERS_OF_PYTHON: [&str; 9] = [
    "as_integer_ratio",
    "bit_length",
    "encode",
    "format_map",
    "isidentifier",
    "isprintable",
    "istitle",
    "maketrans",
    "translate",
];

/// Whether any value has a method called `name`.
pub(crate) fn is_method(name: &str) -> bool {
    name == "format"
        || DICT_METHODS.contains(&name)
        || LIST_METHODS.contains(&name)
        || ["cycle", "changed", "next", "reset"].contains(&name)
        || text_methods::METHODS.iter().any(|(known, _)| *known == name)
}

/// `value.name`: the attribute, else the item.
///
/// # Errors
/// [`TemplateError::Undefined`] where the value is.
pub(crate) fn attribute(value: &Value, name: &str) -> Outcome {
    if let Some(found) = own_attribute(value, name)? {
        return Ok(found);
    }
    let found = operators::item(value, &Value::str(name));
    Ok(found.unwrap_or_else(|| Value::undefined(name)))
}

/// `value | attr(name)`: the attribute, never an item.
///
/// # Errors
/// [`TemplateError::Undefined`] where the value is.
pub(crate) fn attribute_only(value: &Value, name: &str) -> Outcome {
    match value {
        Value::Namespace(_) => attribute(value, name),
        _ => Ok(own_attribute(value, name)?.unwrap_or_else(|| Value::undefined(name))),
    }
}

/// `value[key]`: the item, else the attribute.
///
/// # Errors
/// [`TemplateError::Undefined`] where the value is.
pub(crate) fn item(value: &Value, key: &Value) -> Outcome {
    if let Value::Undefined(name) = value {
        return Err(TemplateError::Undefined { what: name.to_string() });
    }
    if let Some(found) = operators::item(value, key) {
        return Ok(found);
    }
    match key {
        Value::Text(name) => {
            let name = name.plain();
            Ok(own_attribute(value, &name)?.unwrap_or_else(|| Value::undefined(&name)))
        }
        _ => Ok(Value::undefined("item")),
    }
}

/// What `map(attribute='a.0.b')` and its like find.
///
/// # Errors
/// [`TemplateError::Undefined`] where there is nothing to look into.
pub(crate) fn path(value: &Value, path: &Value, default: Option<&Value>) -> Outcome {
    let Value::Text(path) = path else { return item(value, path) };
    let mut found = value.clone();
    for step in path.plain().split('.') {
        let key = match step.parse::<u32>() {
            Ok(index) => Value::Int(i128::from(index)),
            Err(_) => Value::str(step),
        };
        found = item(&found, &key)?;
        if let (true, Some(default)) = (found.is_undefined(), default) {
            found = default.clone();
        }
    }
    Ok(found)
}

fn own_attribute(value: &Value, name: &str) -> Result<Option<Value>, TemplateError> {
    let is_method = match value {
        Value::Undefined(what) => {
            return Err(TemplateError::Undefined { what: what.to_string() });
        }
        Value::Text(_) => {
            name == "format" || text_methods::METHODS.iter().any(|(known, _)| *known == name)
        }
        Value::Dict(_) => DICT_METHODS.contains(&name) || CHANGING[..5].contains(&name),
        Value::List(_) | Value::Tuple(_) => LIST_METHODS.contains(&name),
        Value::Loop(state) => return Ok(loop_attribute(value, state, name)),
        Value::Cycler(items, at) => {
            if name == "current" {
                return Ok(Some(items[*at.borrow() % items.len()].clone()));
            }
            ["next", "reset"].contains(&name)
        }
        _ => false,
    };
    Ok(is_method.then(|| Value::Method(Box::new(value.clone()), name.into())))
}

fn loop_attribute(value: &Value, state: &LoopState, name: &str) -> Option<Value> {
    let (index0, length) = (state.index0, state.items.len());
    let neighbour = |at: Option<usize>| {
        let found = at.and_then(|at| state.items.get(at)).cloned();
        found.unwrap_or_else(|| Value::undefined(name))
    };
    Some(match name {
        "index0" => Value::count(index0),
        "index" => Value::count(index0 + 1),
        "revindex" => Value::count(length - index0),
        "revindex0" => Value::count(length - index0 - 1),
        "first" => Value::Bool(index0 == 0),
        "last" => Value::Bool(index0 + 1 == length),
        "length" => Value::count(length),
        "depth" => Value::count(state.depth0 + 1),
        "depth0" => Value::count(state.depth0),
        "previtem" => neighbour(index0.checked_sub(1)),
        "nextitem" => neighbour(index0.checked_add(1)),
        "cycle" | "changed" => Value::Method(Box::new(value.clone()), name.into()),
        _ => return None,
    })
}

/// `receiver.name(args)`.
///
/// # Errors
/// [`TemplateError`] where Python raises an exception.
pub(crate) fn call_method(receiver: &Value, name: &str, args: Args) -> Outcome {
    match receiver {
        Value::Text(text) => text_methods::call(text, name, args),
        Value::Dict(dict) => match name {
            "get" => {
                let args = args.bind(name, &["key", "default"])?;
                let found = dict.get(args.required(0)?).or(args.value(1));
                Ok(found.cloned().unwrap_or(Value::None))
            }
            "items" => super::filters::call("items", receiver, args),
            "keys" => Ok(Value::list(receiver.items()?.to_vec())),
            "values" => {
                Ok(Value::list(dict.entries().iter().map(|entry| entry.1.clone()).collect()))
            }
            "copy" => Ok(receiver.clone()),
            _ => Err(TemplateError::operation(format!("{name} would change a dict"))),
        },
        Value::List(items) | Value::Tuple(items) => {
            let args = args.bind(name, &["value"])?;
            let wanted = args.required(0)?;
            if name == "count" {
                return Ok(Value::count(items.iter().filter(|item| item.equals(wanted)).count()));
            }
            let at = items.iter().position(|item| item.equals(wanted));
            at.map(Value::count).ok_or_else(|| TemplateError::operation("index: no such item"))
        }
        Value::Loop(state) if name == "cycle" => {
            let items = args.positional;
            let at = state.index0.checked_rem(items.len());
            let at = at.ok_or_else(|| TemplateError::operation("cycle: no items"))?;
            Ok(items[at].clone())
        }
        Value::Loop(state) => {
            let mut last = state.changed.borrow_mut();
            let same = |last: &Vec<Value>| {
                last.len() == args.positional.len()
                    && last.iter().zip(&args.positional).all(|(a, b)| a.equals(b))
            };
            let changed = !last.as_ref().is_some_and(same);
            *last = Some(args.positional);
            Ok(Value::Bool(changed))
        }
        Value::Cycler(items, at) => {
            let mut at = at.borrow_mut();
            if name == "reset" {
                *at = 0;
                return Ok(Value::None);
            }
            let current = items[*at % items.len()].clone();
            *at += 1;
            Ok(current)
        }
        other => Err(TemplateError::operation(format!("{} has no {name}", other.type_name()))),
    }
}
