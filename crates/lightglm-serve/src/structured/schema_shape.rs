//! `Shape`: what llguidance builds of a schema, without its texts and numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

/// Bytes of an expression that are parsed in about the time that it takes to begin one.
const EXPRESSION_BYTES: usize = 256;

/// What is built of a schema. Subtrees are shared here and copied there, so that a shape knows how
/// many nodes it stands for.
#[derive(Clone)]
pub(crate) enum Shape<'a> {
    /// Everything.
    Any,
    /// Nothing.
    Nothing,
    /// A null, a boolean or a number.
    Plain(Plain),
    /// A string.
    Text(Text),
    /// An array.
    Array(Rc<Array<'a>>),
    /// An object.
    Object(Rc<Object<'a>>),
    /// One of these; whether of `oneOf`.
    Union(Rc<Union<'a>>),
    /// What a reference leads to.
    Ref(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    Null,
    Boolean,
    Number,
}

/// The expressions that a string has to match.
#[derive(Clone, Copy, Default)]
pub(crate) struct Text {
    /// How many; a constant is one.
    pub(crate) expressions: usize,
    /// The work of reading them.
    pub(crate) weight: usize,
    /// One constant and nothing else, which takes no work.
    pub(crate) is_constant: bool,
}

pub(crate) struct Array<'a> {
    pub(crate) prefix: Vec<Shape<'a>>,
    pub(crate) items: Option<Shape<'a>>,
    nodes: usize,
}

#[derive(Default)]
pub(crate) struct Object<'a> {
    pub(crate) properties: BTreeMap<&'a str, Shape<'a>>,
    pub(crate) patterns: BTreeMap<&'a str, Shape<'a>>,
    pub(crate) additional: Option<Shape<'a>>,
    pub(crate) required: BTreeSet<&'a str>,
    nodes: usize,
}

pub(crate) struct Union<'a> {
    pub(crate) options: Vec<Shape<'a>>,
    pub(crate) is_one_of: bool,
    nodes: usize,
}

/// What is left to do with a shape once it is built.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rest {
    /// The most expressions of one string.
    pub(crate) meeting: usize,
    /// The work of all expressions.
    pub(crate) weight: usize,
}

impl Text {
    pub(crate) fn expression(bytes: usize) -> Self {
        Self { expressions: 1, weight: 1 + bytes / EXPRESSION_BYTES, is_constant: false }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        match (self.expressions, other.expressions) {
            (0, _) => other,
            (_, 0) => self,
            _ => Self {
                expressions: self.expressions + other.expressions,
                weight: self.weight + other.weight,
                is_constant: false,
            },
        }
    }
}

impl<'a> Shape<'a> {
    pub(crate) fn array(prefix: Vec<Self>, items: Option<Self>) -> Self {
        let nodes = prefix.iter().chain(&items).map(Self::nodes).sum::<usize>() + 1;
        Self::Array(Rc::new(Array { prefix, items, nodes }))
    }

    pub(crate) fn object(mut object: Object<'a>) -> Self {
        let shapes = object.properties.values().chain(object.patterns.values());
        let shapes = shapes.chain(&object.additional);
        object.nodes = shapes.map(Self::nodes).sum::<usize>() + object.required.len() + 1;
        Self::Object(Rc::new(object))
    }

    /// One of `options`, those of unions inside included.
    pub(crate) fn union(options: Vec<Self>, is_one_of: bool) -> Self {
        let mut flat = Vec::with_capacity(options.len());
        for option in options {
            match option {
                Self::Nothing => {}
                Self::Any if !is_one_of => return Self::Any,
                Self::Union(inner) if inner.is_one_of == is_one_of => {
                    flat.extend(inner.options.iter().cloned());
                }
                option => flat.push(option),
            }
        }
        if flat.len() < 2 {
            return flat.pop().unwrap_or(Self::Nothing);
        }
        let nodes = flat.iter().map(Self::nodes).sum::<usize>() + 1;
        Self::Union(Rc::new(Union { options: flat, is_one_of, nodes }))
    }

    /// The one value that `const` allows.
    pub(crate) fn constant(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Plain(Plain::Null),
            Value::Bool(_) => Self::Plain(Plain::Boolean),
            Value::Number(_) => Self::Plain(Plain::Number),
            Value::String(text) => {
                Self::Text(Text { is_constant: true, ..Text::expression(text.len()) })
            }
            Value::Array(items) => {
                Self::array(items.iter().map(Self::constant).collect(), Some(Self::Nothing))
            }
            Value::Object(fields) => Self::object(Object {
                properties: fields.iter().map(|(k, v)| (k.as_str(), Self::constant(v))).collect(),
                additional: Some(Self::Nothing),
                required: fields.keys().map(String::as_str).collect(),
                ..Object::default()
            }),
        }
    }

    /// How many schemas are copied with it.
    pub(crate) fn nodes(&self) -> usize {
        match self {
            Self::Array(array) => array.nodes,
            Self::Object(object) => object.nodes,
            Self::Union(union) => union.nodes,
            _ => 1,
        }
    }

    /// What is left to do. What references lead to counts by itself.
    pub(crate) fn rest(&self) -> Rest {
        match self {
            Self::Text(text) => Rest {
                meeting: text.expressions,
                weight: if text.is_constant { 0 } else { text.weight },
            },
            Self::Array(array) => all(array.prefix.iter().chain(&array.items)),
            Self::Union(union) => all(&union.options),
            Self::Object(object) => object.rest(),
            Self::Any | Self::Nothing | Self::Plain(_) | Self::Ref(_) => Rest::default(),
        }
    }
}

impl<'a> Object<'a> {
    /// What a property has to be: where patterns may name it, one of what they and the others ask.
    pub(crate) fn property(&self, name: &str) -> Shape<'a> {
        if let Some(shape) = self.properties.get(name) {
            return shape.clone();
        }
        let others = self.additional.clone().unwrap_or(Shape::Any);
        if self.patterns.is_empty() {
            return others;
        }
        // `Any` must stay one of them: a union that has it is `Any` alone.
        Shape::union(self.patterns.values().cloned().chain([others]).collect(), true)
    }

    fn rest(&self) -> Rest {
        let others = all(self.patterns.values().chain(&self.additional));
        // Those that no property describes are built each by itself.
        let named = self.required.iter().filter(|name| !self.properties.contains_key(*name));
        let properties = all(self.properties.values());
        Rest {
            meeting: others.meeting.max(properties.meeting),
            weight: properties.weight.saturating_add(others.weight * (named.count() + 1)),
        }
    }
}

fn all<'s, 'a: 's>(shapes: impl IntoIterator<Item = &'s Shape<'a>>) -> Rest {
    shapes.into_iter().map(Shape::rest).fold(Rest::default(), |sum, rest| Rest {
        meeting: sum.meeting.max(rest.meeting),
        weight: sum.weight.saturating_add(rest.weight),
    })
}
