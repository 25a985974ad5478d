//! The functions that templates call by name.

use std::cell::RefCell;
use std::rc::Rc;

use super::args::Args;
use super::error::TemplateError;
use super::spell::str_of;
use super::text::{TEMPLATE, Text};
use super::value::{Dict, Value};
use crate::strftime;

/// The functions, and the names of their parameters where they have some of their own.
pub(crate) const FUNCTIONS: [&str; 7] =
    ["range", "namespace", "dict", "joiner", "cycler", "raise_exception", "strftime_now"];

/// The longest `range`, as jinja2's sandbox has it.
const MAX_RANGE: i128 = 100_000;

/// Calls the function `name`.
///
/// # Errors
/// [`TemplateError::Raised`] of `raise_exception`; [`TemplateError::Operation`] for wrong arguments.
pub(crate) fn call(name: &str, args: Args, unix_seconds: i64) -> Result<Value, TemplateError> {
    match name {
        "raise_exception" => {
            let message = str_of(args.bind(name, &["message"])?.required(0)?)?.plain();
            Err(TemplateError::Raised { message })
        }
        "strftime_now" => {
            let args = args.bind(name, &["format"])?;
            let format = args.text(0)?;
            // Whoever had a hand in the format wrote the date.
            let sources = format.glyphs().iter().map(|glyph| glyph.source);
            let text = strftime::format(&format.plain(), unix_seconds);
            Ok(Value::Text(Text::new(&text, sources.max().unwrap_or(TEMPLATE))))
        }
        "range" => range(args),
        "namespace" => Ok(Value::Namespace(Rc::new(RefCell::new(dict(args)?)))),
        "dict" => Ok(Value::Dict(Rc::new(dict(args)?))),
        "joiner" => {
            let args = args.bind(name, &["sep"])?;
            let separator = args.optional_text(0)?.cloned();
            let separator = separator.unwrap_or_else(|| Text::template(", "));
            Ok(Value::Joiner(separator, Rc::default()))
        }
        _ if args.positional.is_empty() => Err(TemplateError::operation("cycler: no items")),
        _ => Ok(Value::Cycler(Rc::new(args.positional.into()), Rc::default())),
    }
}

fn dict(args: Args) -> Result<Dict, TemplateError> {
    let mut dict = Dict::default();
    for argument in &args.positional {
        match argument {
            Value::Dict(entries) => {
                for (key, value) in entries.entries() {
                    dict.insert(key.clone(), value.clone());
                }
            }
            pairs => {
                for pair in pairs.items()?.iter() {
                    match &pair.items()?[..] {
                        [key, value] => dict.insert(key.clone(), value.clone()),
                        _ => return Err(TemplateError::operation("dict: a pair is expected")),
                    }
                }
            }
        }
    }
    for (name, value) in args.named {
        dict.insert(Value::Text(name), value);
    }
    Ok(dict)
}

fn range(args: Args) -> Result<Value, TemplateError> {
    let numbers = args.positional.iter().map(Value::as_int).collect::<Option<Vec<_>>>();
    let (start, stop, step) = match numbers.as_deref() {
        Some([stop]) => (0, *stop, 1),
        Some([start, stop]) => (*start, *stop, 1),
        Some([start, stop, step]) if *step != 0 => (*start, *stop, *step),
        _ => return Err(TemplateError::operation("range takes one to three whole numbers")),
    };
    let mut items = Vec::new();
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        if items.len() as i128 >= MAX_RANGE {
            return Err(TemplateError::operation(format!("range of more than {MAX_RANGE} items")));
        }
        items.push(Value::Int(at));
        at = at.saturating_add(step);
    }
    Ok(Value::list(items))
}
