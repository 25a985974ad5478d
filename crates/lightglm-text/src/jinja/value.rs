//! The values of a template: Python's, as far as Jinja shows them.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use super::error::TemplateError;
use super::text::Text;

/// A value. Lists and dicts are immutable, as in transformers' sandbox.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// What does not exist, and what it was called.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    Dict(Rc<Dict>),
    Namespace(Rc<RefCell<Dict>>),
    Loop(Rc<LoopState>),
    /// Position in the renderer's table of macros.
    Macro(usize),
    /// A function of the environment, by name.
    Function(&'static str),
    /// A method and what it is a method of.
    Method(Box<Value>, Rc<str>),
    /// `joiner(...)` and `cycler(...)`, and how often they were asked.
    Joiner(Text, Rc<RefCell<bool>>),
    Cycler(Rc<Items>, Rc<RefCell<usize>>),
}

/// The items of a list, and how deeply they are nested.
#[derive(Clone, Debug, Default)]
pub(crate) struct Items {
    values: Vec<Value>,
    depth: usize,
}

impl From<Vec<Value>> for Items {
    fn from(values: Vec<Value>) -> Self {
        let depth = values.iter().map(Value::depth).max().unwrap_or(0) + 1;
        Self { values, depth }
    }
}

impl std::ops::Deref for Items {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.values
    }
}

/// What `loop` knows.
#[derive(Debug)]
pub(crate) struct LoopState {
    pub(crate) index0: usize,
    pub(crate) items: Rc<Items>,
    pub(crate) depth0: usize,
    /// Position in the renderer's table of recursive loops.
    pub(crate) recursive: Option<usize>,
    pub(crate) changed: Rc<RefCell<Option<Vec<Value>>>>,
}

/// A dict in the order of its insertions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dict {
    entries: Vec<(Value, Value)>,
    texts: HashMap<String, usize>,
    depth: usize,
}

impl Dict {
    pub(crate) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    pub(crate) fn get(&self, key: &Value) -> Option<&Value> {
        match key {
            Value::Text(text) => self.get_str(&text.plain()),
            other => self.entries.iter().find(|(key, _)| key.equals(other)).map(|(_, value)| value),
        }
    }

    pub(crate) fn get_str(&self, key: &str) -> Option<&Value> {
        self.texts.get(key).map(|&index| &self.entries[index].1)
    }

    pub(crate) fn insert(&mut self, key: Value, value: Value) {
        self.depth = self.depth.max(1 + key.depth().max(value.depth()));
        let index = match &key {
            Value::Text(text) => self.texts.get(&text.plain()).copied(),
            other => self.entries.iter().position(|(key, _)| key.equals(other)),
        };
        if let Some(index) = index {
            self.entries[index].1 = value;
            return;
        }
        if let Value::Text(text) = &key {
            self.texts.insert(text.plain(), self.entries.len());
        }
        self.entries.push((key, value));
    }
}

impl Value {
    pub(crate) fn str(text: &str) -> Self {
        Self::Text(Text::template(text))
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items.into()))
    }

    pub(crate) fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(Rc::new(items.into()))
    }

    pub(crate) fn dict(entries: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let mut dict = Dict::default();
        for (key, value) in entries {
            dict.insert(key, value);
        }
        Self::Dict(Rc::new(dict))
    }

    pub(crate) fn undefined(name: &str) -> Self {
        Self::Undefined(name.into())
    }

    pub(crate) fn count(count: usize) -> Self {
        Self::Int(count as i128)
    }

    /// Levels of lists and dicts.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::List(items) | Self::Tuple(items) => items.depth,
            Self::Dict(dict) => dict.depth,
            _ => 0,
        }
    }

    pub(crate) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn as_text(&self) -> Option<&Text> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// Python's `bool`.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(flag) => *flag,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) | Self::Tuple(items) => !items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    /// Python's name of the type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Function(_) => "function",
            Self::Method(..) => "method",
            Self::Joiner(..) => "Joiner",
            Self::Cycler(..) => "Cycler",
        }
    }

    /// The number behind a number or a bool.
    pub(crate) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(flag) => Some(i128::from(*flag)),
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            other => other.as_int().map(|number| number as f64),
        }
    }

    /// Python's `==`.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.equals(b))
            }
            (Self::Dict(a), Self::Dict(b)) => {
                let same =
                    |(key, value): &(Self, Self)| b.get(key).is_some_and(|b| b.equals(value));
                a.entries.len() == b.entries.len() && a.entries.iter().all(same)
            }
            (Self::Macro(a), Self::Macro(b)) => a == b,
            (Self::Function(a), Self::Function(b)) => a == b,
            (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => self.as_float().is_some_and(|a| other.as_float() == Some(a)),
            },
        }
    }

    /// Python's `<` and its like.
    ///
    /// # Errors
    /// [`TemplateError::Operation`] where the two have no order.
    pub(crate) fn compare(&self, other: &Self) -> Result<Ordering, TemplateError> {
        let unordered = || {
            let (a, b) = (self.type_name(), other.type_name());
            TemplateError::operation(format!("{a} and {b} have no order"))
        };
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Ok(a.cmp(b)),
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                for (a, b) in a.iter().zip(b.iter()) {
                    if !a.equals(b) {
                        return a.compare(b);
                    }
                }
                Ok(a.len().cmp(&b.len()))
            }
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => Ok(a.cmp(&b)),
                _ => {
                    let (a, b) = self.as_float().zip(other.as_float()).ok_or_else(unordered)?;
                    a.partial_cmp(&b).ok_or_else(unordered)
                }
            },
        }
    }

    /// What a `for` goes through.
    ///
    /// # Errors
    /// [`TemplateError::Operation`] where it is not iterable.
    pub(crate) fn items(&self) -> Result<Rc<Items>, TemplateError> {
        match self {
            Self::Undefined(_) => Ok(Rc::default()),
            Self::List(items) | Self::Tuple(items) => Ok(Rc::clone(items)),
            Self::Text(text) => {
                let remains = text.remains();
                let characters = (0..text.len()).map(|at| Self::Text(remains.part(at, at + 1)));
                Ok(Rc::new(characters.collect::<Vec<_>>().into()))
            }
            Self::Dict(dict) => {
                let keys = dict.entries.iter().map(|(key, _)| key.clone());
                Ok(Rc::new(keys.collect::<Vec<_>>().into()))
            }
            other => {
                Err(TemplateError::operation(format!("{} is not iterable", other.type_name())))
            }
        }
    }

    /// Python's `len`.
    pub(crate) fn length(&self) -> Result<usize, TemplateError> {
        match self {
            Self::Undefined(_) => Ok(0),
            Self::Text(text) => Ok(text.len()),
            Self::List(items) | Self::Tuple(items) => Ok(items.len()),
            Self::Dict(dict) => Ok(dict.entries.len()),
            Self::Loop(state) => Ok(state.items.len()),
            other => Err(TemplateError::operation(format!("{} has no length", other.type_name()))),
        }
    }
}
