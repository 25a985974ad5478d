//! The Jinja environment that Hugging Face chat templates are written for.
//!
//! Source: `_compile_jinja_template` in transformers' utils/chat_template_utils.py.

use std::io;
use std::sync::Arc;

use minijinja::value::{Kwargs, ViaDeserialize};
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::provenance::Disguise;
use crate::python_json::{JsonStyle, PythonWriter};
use crate::strftime;

/// Instructions a rendering may take. A conversation of ten thousand messages takes under a million.
const FUEL: u64 = 20_000_000;

/// Nesting of macros, calls and loops.
const RECURSION_LIMIT: usize = 100;

/// The longest prompt a template may write, in bytes.
pub(crate) const OUTPUT_LIMIT: usize = 64 << 20;

/// The widest `indent` of `tojson`.
const MAX_INDENT: usize = 64;

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Raised(pub(crate) String);

/// An environment for one rendering of strings under `disguise`, at `unix_seconds`.
pub(crate) fn environment(disguise: &Arc<Disguise>, unix_seconds: i64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_LIMIT);

    let writer_disguise = Arc::clone(disguise);
    environment.set_formatter(move |out, state, value| {
        if value.is_undefined() || value.as_str().is_some() {
            return minijinja::escape_formatter(out, state, value);
        }
        match serde_json::to_value(value) {
            Ok(json) => {
                let writer = PythonWriter { disguise: &writer_disguise };
                out.write_str(&writer.text(&json)).map_err(Error::from)
            }
            // Macros, loops and other things that are no data.
            Err(_) => minijinja::escape_formatter(out, state, value),
        }
    });

    let json_disguise = Arc::clone(disguise);
    environment.add_filter("tojson", move |value: &Value, kwargs: Kwargs| {
        to_json(&json_disguise, value, &kwargs)
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
    });
    environment
        .add_function("strftime_now", move |format: &str| strftime::format(format, unix_seconds));
    environment
}

fn to_json(disguise: &Disguise, value: &Value, kwargs: &Kwargs) -> Result<Value, Error> {
    let indent = match kwargs.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) if indent.is_none() || indent.is_undefined() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(i64::try_from(indent)?).unwrap_or(0).min(1 << 20)),
        }),
    };
    if indent.as_ref().is_some_and(|indent| indent.len() > MAX_INDENT) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: the indent is too wide"));
    }
    let separators = kwargs.get::<Option<ViaDeserialize<(String, String)>>>("separators")?;
    let default_item_separator = if indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) = match separators {
        Some(ViaDeserialize(pair)) => pair,
        None => (default_item_separator.to_owned(), ": ".to_owned()),
    };
    let style = JsonStyle {
        indent,
        item_separator,
        key_separator,
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "tojson of an undefined value"));
    }
    let json = serde_json::to_value(value).map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "tojson of something that is no data")
            .with_source(error)
    })?;
    Ok(Value::from(PythonWriter { disguise }.json(&json, &style)))
}

/// Collects a rendering up to [`OUTPUT_LIMIT`].
#[derive(Default)]
pub(crate) struct BoundedOutput {
    pub(crate) bytes: Vec<u8>,
    pub(crate) exceeded: bool,
}

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_LIMIT {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
