//! `SchemaWork`: what llguidance does for a schema before any fuel is counted.
//!
//! It brings together whatever has to hold of one value (`allOf`, siblings of a `$ref` or an `anyOf`, a
//! property that a pattern names, too), every alternative with every other, and then looks at each
//! string whether anything matches all of its expressions. That can be 2^n steps for n expressions,
//! and some of it for every one of many thousand combinations. Here the same is done to shapes without
//! expressions, step by step as llguidance does it, and counted.
//!
//! Source: llguidance 1.9, `json/schema.rs` and `json/context_simple`.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use crate::structured::schema_shape::{Array, Object, Plain, Shape, Text, Union};

/// Schemas that are brought together; llguidance stops at 50,000 by itself.
const MOST_STEPS: usize = 100_000;

/// Schemas that are copied for it, some 100 bytes each.
const MOST_NODES: usize = 500_000;

/// Alternatives under `oneOf` that are compared with each other.
const MOST_PAIRS: usize = 1_000_000;

/// Levels that bringing two schemas together may take, as in llguidance.
const MOST_LEVELS: usize = 128;

/// Drafts whose `items` may be a list; to llguidance any other name is the newest.
const OLD_DRAFTS: [&str; 4] = [
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
];

/// Characters of a reference that are repeated.
const REFERENCE_CHARS: usize = 80;

const APPLICATORS: [&str; 6] = ["const", "enum", "allOf", "anyOf", "oneOf", "$ref"];

/// What says nothing about a value.
const ANNOTATIONS: [&str; 15] = [
    "$anchor",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "id",
    "$comment",
    "title",
    "description",
    "default",
    "readOnly",
    "writeOnly",
    "examples",
    "contentMediaType",
    "contentEncoding",
];

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

/// What llguidance does for schemas before any fuel is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchemaWork {
    /// The most expressions that one string has to match.
    pub(crate) meeting: usize,
    /// Expressions that are read, of every combination, long ones several times.
    pub(crate) expressions: usize,
    /// Comparisons of expressions under `patternProperties`.
    pub(crate) comparisons: usize,
    steps: usize,
    nodes: usize,
    pairs: usize,
}

/// Why a schema's work was not counted to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uncounted {
    /// There is more of it than any schema may take.
    TooMuch { unit: &'static str, limit: usize },
    /// The schema cannot be built.
    Broken { reason: String },
}

/// Adds the work for a schema to that for the schemas before it. The time it takes is bounded, the
/// stack as that of llguidance: by the length of a chain of references.
pub(crate) fn add_schema_work(root: &Value, work: &mut SchemaWork) -> Result<(), Uncounted> {
    let draft = root.get("$schema").and_then(Value::as_str).map(|name| name.trim_end_matches('#'));
    let is_old = draft.is_some_and(|draft| OLD_DRAFTS.contains(&draft));
    let mut builder = Builder { root, is_old, definitions: HashMap::new(), work };
    let shape = builder.build(root)?;
    for shape in builder.definitions.values().flatten().chain([&shape]) {
        let rest = shape.rest();
        builder.work.meeting = builder.work.meeting.max(rest.meeting);
        builder.work.expressions = builder.work.expressions.saturating_add(rest.weight);
    }
    Ok(())
}

struct Builder<'a, 'w> {
    root: &'a Value,
    /// A draft whose `items` may be a list.
    is_old: bool,
    /// `None` while it is built.
    definitions: HashMap<&'a str, Option<Shape<'a>>>,
    work: &'w mut SchemaWork,
}

fn count(sum: &mut usize, more: usize, limit: usize, unit: &'static str) -> Result<(), Uncounted> {
    *sum = sum.saturating_add(more);
    if *sum > limit { Err(Uncounted::TooMuch { unit, limit }) } else { Ok(()) }
}

impl<'a> Builder<'a, '_> {
    fn step(&mut self) -> Result<(), Uncounted> {
        count(&mut self.work.steps, 1, MOST_STEPS, "steps of bringing schemas together")
    }

    fn copy(&mut self, shape: &Shape<'a>) -> Result<Shape<'a>, Uncounted> {
        count(&mut self.work.nodes, shape.nodes(), MOST_NODES, "schemas after all combinations")?;
        Ok(shape.clone())
    }

    fn union(&mut self, options: Vec<Shape<'a>>, is_one_of: bool) -> Result<Shape<'a>, Uncounted> {
        let shape = Shape::union(options, is_one_of);
        if let Shape::Union(union) = &shape
            && union.is_one_of
        {
            let pairs = union.options.len().saturating_mul(union.options.len() - 1) / 2;
            count(&mut self.work.pairs, pairs, MOST_PAIRS, "pairs of alternatives under oneOf")?;
        }
        Ok(shape)
    }

    fn build(&mut self, schema: &'a Value) -> Result<Shape<'a>, Uncounted> {
        match schema {
            Value::Object(fields) => self.build_fields(fields),
            Value::Bool(false) => Ok(Shape::Nothing),
            // What is no schema is refused later.
            _ => Ok(Shape::Any),
        }
    }

    /// Keywords in their order: applicators one by one, what stands between them together.
    fn build_fields(&mut self, fields: &'a Map<String, Value>) -> Result<Shape<'a>, Uncounted> {
        self.step()?;
        // Options for the compiler, which takes them out.
        let is_root = self.root.as_object().is_some_and(|root| std::ptr::eq(root, fields));
        let mut result = Shape::Any;
        let mut together: BTreeMap<&str, &'a Value> = BTreeMap::new();
        for (key, value) in fields {
            let key = key.as_str();
            if APPLICATORS.contains(&key) {
                result = self.flush(result, &mut together, fields)?;
                result = self.apply(result, key, value)?;
            } else if !(ANNOTATIONS.contains(&key) || is_root && key == "x-guidance") {
                together.insert(key, value);
            }
        }
        self.flush(result, &mut together, fields)
    }

    fn flush(
        &mut self,
        result: Shape<'a>,
        together: &mut BTreeMap<&str, &'a Value>,
        fields: &'a Map<String, Value>,
    ) -> Result<Shape<'a>, Uncounted> {
        if together.is_empty() {
            return Ok(result);
        }
        let keywords = std::mem::take(together);
        let names: Vec<&str> = match fields.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => TYPES.to_vec(),
        };
        let options: Result<Vec<_>, _> =
            names.into_iter().map(|name| self.of_type(name, &keywords, fields)).collect();
        let shape = self.union(options?, false)?;
        self.intersect(result, shape, 0)
    }

    fn of_type(
        &mut self,
        name: &str,
        keywords: &BTreeMap<&str, &'a Value>,
        fields: &'a Map<String, Value>,
    ) -> Result<Shape<'a>, Uncounted> {
        self.step()?;
        let text = |key: &str| keywords.get(key).and_then(|value| value.as_str());
        Ok(match name {
            "null" => Shape::Plain(Plain::Null),
            "boolean" => Shape::Plain(Plain::Boolean),
            "string" => {
                let pattern = text("pattern").map(|text| Text::expression(text.len()));
                let format = text("format").map(|_| Text::expression(0));
                Shape::Text(pattern.unwrap_or_default().and(format.unwrap_or_default()))
            }
            "array" => self.array(keywords, fields)?,
            "object" => self.object(keywords, fields)?,
            // `number`, `integer`; others are refused later.
            _ => Shape::Plain(Plain::Number),
        })
    }

    fn array(
        &mut self,
        keywords: &BTreeMap<&str, &'a Value>,
        fields: &'a Map<String, Value>,
    ) -> Result<Shape<'a>, Uncounted> {
        let get = |key| keywords.get(key).copied();
        let (items, additional) = (get("items"), get("additionalItems"));
        let is_list = items.is_some_and(Value::is_array);
        let (prefix, items) = match (is_list, self.is_old || additional.is_some()) {
            (true, _) => (items, additional),
            (false, true) => (None, items),
            (false, false) => (get("prefixItems"), items),
        };
        let prefix = match prefix.and_then(Value::as_array) {
            Some(prefix) => prefix.iter().map(|item| self.build(item)).collect::<Result<_, _>>()?,
            // Those that come elsewhere in the schema are not among the rest.
            None if !self.is_old && !keywords.contains_key("prefixItems") && items.is_some() => {
                let known = fields.get("prefixItems").and_then(Value::as_array);
                vec![Shape::Any; known.map_or(0, Vec::len)]
            }
            None => Vec::new(),
        };
        let items = items.map(|items| self.build(items)).transpose()?;
        Ok(Shape::array(prefix, items))
    }

    fn object(
        &mut self,
        keywords: &BTreeMap<&str, &'a Value>,
        fields: &'a Map<String, Value>,
    ) -> Result<Shape<'a>, Uncounted> {
        let mut object = Object::default();
        object.properties = self.map(keywords.get("properties").copied())?;
        object.patterns = self.map(keywords.get("patternProperties").copied())?;
        self.compare(object.patterns.len());
        // Those that come elsewhere in the schema are no additional ones.
        if keywords.contains_key("additionalProperties") && !keywords.contains_key("properties") {
            let known = fields.get("properties").and_then(Value::as_object);
            let known = known.into_iter().flat_map(Map::keys);
            object.properties.extend(known.map(|name| (name.as_str(), Shape::Any)));
        }
        if !object.patterns.is_empty() {
            let options = object.patterns.values().cloned().chain([Shape::Any]).collect();
            let patterns = self.union(options, true)?;
            for shape in object.properties.values_mut() {
                let own = std::mem::replace(shape, Shape::Any);
                let pattern = self.copy(&patterns)?;
                *shape = self.intersect(own, pattern, 0)?;
            }
        }
        let additional = keywords.get("additionalProperties");
        object.additional = additional.map(|additional| self.build(additional)).transpose()?;
        let required = keywords.get("required").and_then(|value| value.as_array());
        object.required = required.into_iter().flatten().filter_map(Value::as_str).collect();
        Ok(Shape::object(object))
    }

    fn map(
        &mut self,
        schemas: Option<&'a Value>,
    ) -> Result<BTreeMap<&'a str, Shape<'a>>, Uncounted> {
        let schemas = schemas.and_then(Value::as_object).into_iter().flatten();
        schemas.map(|(name, schema)| Ok((name.as_str(), self.build(schema)?))).collect()
    }

    fn apply(
        &mut self,
        result: Shape<'a>,
        key: &str,
        value: &'a Value,
    ) -> Result<Shape<'a>, Uncounted> {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        match key {
            "const" => self.intersect(result, Shape::constant(value), 0),
            "enum" => {
                let options = list.iter().map(Shape::constant).collect();
                let shape = self.union(options, false)?;
                self.intersect(result, shape, 0)
            }
            "allOf" => list.iter().try_fold(result, |result, schema| {
                let shape = self.build(schema)?;
                self.intersect(result, shape, 0)
            }),
            "$ref" => match value.as_str() {
                Some(target) if matches!(result, Shape::Any) => {
                    self.define(target)?;
                    Ok(Shape::Ref(target))
                }
                Some(target) => self.intersect(result, Shape::Ref(target), 0),
                None => Ok(result),
            },
            _ => {
                let options = list.iter().map(|schema| self.build(schema));
                let options = options.collect::<Result<Vec<_>, _>>()?;
                let shape = self.union(options, key == "oneOf")?;
                self.intersect(result, shape, 0)
            }
        }
    }

    fn define(&mut self, target: &'a str) -> Result<(), Uncounted> {
        if !self.definitions.contains_key(target) {
            self.definitions.insert(target, None);
            let shape = self.build(self.target(target)?)?;
            self.definitions.insert(target, Some(shape));
        }
        Ok(())
    }

    /// Where a reference leads. Segments are names as they are, without the escapes of JSON pointers.
    fn target(&self, reference: &str) -> Result<&'a Value, Uncounted> {
        if reference == "#" || reference == "#/" {
            return Ok(self.root);
        }
        let path = reference.strip_prefix("#/");
        let found = path.and_then(|path| {
            path.split('/').try_fold(self.root, |value, segment| match value {
                Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
                value => value.get(segment),
            })
        });
        found.ok_or_else(|| {
            broken("leads nowhere; only paths in this schema (#/...) are followed", reference)
        })
    }

    fn intersect(
        &mut self,
        a: Shape<'a>,
        b: Shape<'a>,
        level: usize,
    ) -> Result<Shape<'a>, Uncounted> {
        self.step()?;
        if level > MOST_LEVELS {
            let (unit, limit) = ("levels of bringing schemas together", MOST_LEVELS);
            return Err(Uncounted::TooMuch { unit, limit });
        }
        Ok(match (a, b) {
            (Shape::Any, other) | (other, Shape::Any) => other,
            (Shape::Nothing, _) | (_, Shape::Nothing) => Shape::Nothing,
            (Shape::Ref(target), other) | (other, Shape::Ref(target)) => {
                self.define(target)?;
                let shape = self.definitions.get(target).cloned().flatten();
                let shape = shape.ok_or_else(|| broken("leads to itself", target))?;
                let shape = self.copy(&shape)?;
                self.intersect(shape, other, level + 2)?
            }
            // As in llguidance, `oneOf` first.
            (Shape::Union(union), other) if union.is_one_of => self.each(&union, &other, level)?,
            (other, Shape::Union(union)) if union.is_one_of => self.each(&union, &other, level)?,
            (Shape::Union(union), other) | (other, Shape::Union(union)) => {
                self.each(&union, &other, level)?
            }
            (Shape::Plain(a), Shape::Plain(b)) if a == b => Shape::Plain(a),
            (Shape::Text(a), Shape::Text(b)) => Shape::Text(a.and(b)),
            (Shape::Array(a), Shape::Array(b)) => self.arrays(&a, &b, level + 1)?,
            (Shape::Object(a), Shape::Object(b)) => self.objects(&a, &b, level + 1)?,
            _ => Shape::Nothing,
        })
    }

    fn each(
        &mut self,
        union: &Union<'a>,
        other: &Shape<'a>,
        level: usize,
    ) -> Result<Shape<'a>, Uncounted> {
        let mut options = Vec::with_capacity(union.options.len());
        for option in &union.options {
            let other = self.copy(other)?;
            options.push(self.intersect(option.clone(), other, level + 1)?);
        }
        self.union(options, union.is_one_of)
    }

    fn arrays(
        &mut self,
        a: &Array<'a>,
        b: &Array<'a>,
        level: usize,
    ) -> Result<Shape<'a>, Uncounted> {
        let mut prefix = Vec::new();
        for at in 0..a.prefix.len().max(b.prefix.len()) {
            let item = |array: &Array<'a>| {
                array.prefix.get(at).or(array.items.as_ref()).cloned().unwrap_or(Shape::Any)
            };
            let (a, b) = (self.copy(&item(a))?, self.copy(&item(b))?);
            prefix.push(self.intersect(a, b, level)?);
        }
        let items = self.both(&a.items, &b.items, level)?;
        Ok(Shape::array(prefix, items))
    }

    fn objects(
        &mut self,
        a: &Object<'a>,
        b: &Object<'a>,
        level: usize,
    ) -> Result<Shape<'a>, Uncounted> {
        let mut object = Object::default();
        let others = b.properties.keys().filter(|name| !a.properties.contains_key(*name));
        for name in a.properties.keys().chain(others) {
            let (a, b) = (self.copy(&a.property(name))?, self.copy(&b.property(name))?);
            object.properties.insert(name, self.intersect(a, b, level)?);
        }
        for (own, other) in [(a, b), (b, a)] {
            for (pattern, shape) in &own.patterns {
                let other = other.patterns.get(pattern).or(other.additional.as_ref());
                let other = self.copy(other.unwrap_or(&Shape::Any))?;
                let shape = self.intersect(shape.clone(), other, level)?;
                object.patterns.insert(pattern, shape);
            }
        }
        self.compare(object.patterns.len());
        object.additional = self.both(&a.additional, &b.additional, level)?;
        object.required = a.required.union(&b.required).copied().collect();
        Ok(Shape::object(object))
    }

    fn both(
        &mut self,
        a: &Option<Shape<'a>>,
        b: &Option<Shape<'a>>,
        level: usize,
    ) -> Result<Option<Shape<'a>>, Uncounted> {
        match (a, b) {
            (Some(a), Some(b)) => Ok(Some(self.intersect(a.clone(), b.clone(), level)?)),
            (a, b) => Ok(a.as_ref().or(b.as_ref()).cloned()),
        }
    }

    /// Every expression with every other, and each with itself, for it is read every time.
    fn compare(&mut self, patterns: usize) {
        let pairs = patterns.saturating_mul(patterns + 1) / 2;
        self.work.comparisons = self.work.comparisons.saturating_add(pairs);
    }
}

fn broken(what: &str, reference: &str) -> Uncounted {
    let short: String = reference.chars().take(REFERENCE_CHARS).collect();
    let reason = format!("the reference `{short}` {what}");
    Uncounted::Broken { reason }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn work(schema: Value) -> SchemaWork {
        let mut work = SchemaWork::default();
        add_schema_work(&schema, &mut work).unwrap();
        work
    }

    fn failure(schema: &Value) -> Result<(), Uncounted> {
        add_schema_work(schema, &mut SchemaWork::default())
    }

    fn pattern(i: usize) -> Value {
        json!({ "type": "string", "pattern": format!(".*{i}.*") })
    }

    fn patterns(count: usize) -> Vec<Value> {
        (0..count).map(pattern).collect()
    }

    #[test]
    fn expressions_meet_in_a_string() {
        let meeting = |schema| work(schema).meeting;
        assert_eq!(meeting(json!({ "allOf": patterns(20) })), 20);
        assert_eq!(meeting(json!({ "anyOf": patterns(20) })), 1);
        let wrapped: Vec<Value> =
            patterns(20).into_iter().map(|p| json!({ "anyOf": [p, { "type": "null" }] })).collect();
        assert_eq!(meeting(json!({ "allOf": wrapped })), 20);
        let nested = patterns(20)
            .into_iter()
            .fold(json!({}), |inner, p| json!({ "anyOf": [p], "allOf": [inner] }));
        assert_eq!(meeting(nested), 20);
        let siblings = json!({ "pattern": "a", "format": "date", "anyOf": [pattern(1), pattern(2)],
            "oneOf": [pattern(3)], "enum": ["a", "b"] });
        assert_eq!(meeting(siblings), 5);
    }

    #[test]
    fn expressions_of_other_places_do_not() {
        let properties = json!({ "type": "object", "properties": {
            "x": pattern(1), "y": pattern(2), "z": { "format": "date" },
            "list": { "type": "array", "items": pattern(3), "prefixItems": [pattern(4)] } } });
        // What people write: a reference with a description, definitions beside it.
        let wrapped = json!({ "allOf": [{ "$ref": "#/$defs/a" }], "description": "it",
            "$defs": { "a": properties } });
        assert_eq!(work(wrapped).meeting, 1);
        let joined = json!({ "allOf": [{ "$ref": "#/$defs/a" }, { "properties": {
            "x": pattern(5), "w": pattern(6) } }], "$defs": { "a": properties } });
        assert_eq!(work(joined).meeting, 2);
        let formats = json!({ "type": "integer", "format": "int64" });
        assert_eq!(work(json!({ "allOf": vec![formats; 20] })).meeting, 0);
        let said = json!({ "allOf": [{ "examples": patterns(20), "default": pattern(1) },
            { "const": { "pattern": "a", "format": "b" } }, { "enum": patterns(20) }] });
        assert!(work(said).meeting < 3);
        // One name of a property after another, and a name that is a keyword elsewhere.
        let named = json!({ "properties": { "$defs": { "allOf": patterns(20) } } });
        assert_eq!(work(named).meeting, 20);
        let named = json!({ "properties": { "definitions": { "allOf": patterns(20) } } });
        assert_eq!(work(named).meeting, 20);
    }

    #[test]
    fn references_are_followed_as_they_are_written() {
        let chain = |escape: &str| {
            let name = |i: usize| format!("{i}{escape}");
            let definition = |i: usize| json!({ "$ref": format!("#/$defs/{}", name(i + 1)), "pattern": format!("{i}") });
            let mut all: Map<String, Value> = (0..20).map(|i| (name(i), definition(i))).collect();
            all.insert(name(20), pattern(20));
            json!({ "$ref": format!("#/$defs/{}", name(0)), "$defs": all })
        };
        for escape in ["", "~0", "~1", "%25", "é"] {
            assert_eq!(work(chain(escape)).meeting, 21, "{escape}");
        }
        let tree = json!({ "pattern": "a", "properties": { "left": { "$ref": "#" } } });
        assert_eq!(work(tree).meeting, 1);
        for reference in ["#x", "#/$defs/a~1b", "http://localhost/x", "#/$defs/0", "#/a/b"] {
            let schema = json!({ "$ref": reference, "$defs": { "a/b": {} } });
            assert!(matches!(failure(&schema), Err(Uncounted::Broken { .. })), "{reference}");
        }
        let circle = json!({ "$ref": "#", "pattern": "a" });
        assert!(matches!(failure(&circle), Err(Uncounted::Broken { .. })));
    }

    #[test]
    fn patterns_of_names_meet_the_properties() {
        let nested = (0..20)
            .fold(json!({ "type": "string" }), |inner, i| json!({ "allOf": [inner, pattern(i)] }));
        let meeting = |schema| work(schema).meeting;
        let pair =
            json!({ "properties": { "ab": pattern(1) }, "patternProperties": { "^a": nested } });
        assert_eq!(meeting(pair), 21);
        let many: Vec<Value> = (0..20)
            .map(|i| json!({ "type": "object", "patternProperties": { "^a": pattern(i) } }))
            .collect();
        assert_eq!(meeting(json!({ "allOf": many })), 20);
        let others: Vec<Value> = (0..20)
            .map(|i| json!({ "additionalProperties": pattern(i), "properties": { format!("{i}"): {} } }))
            .collect();
        assert_eq!(meeting(json!({ "allOf": others })), 20);
        let late = json!({ "additionalProperties": false, "patternProperties": { "^a": pattern(1) },
            "anyOf": [{}, { "type": "object" }], "properties": { "ab": pattern(2) } });
        assert_eq!(meeting(late), 2);
    }

    #[test]
    fn combinations_are_counted() {
        let named = |name: &str| -> Vec<Value> {
            let object = |i| {
                json!({ "type": "object", "properties": { "s": {
                "type": "string", "pattern": format!("{name}{i}") } } })
            };
            (0..30).map(object).collect()
        };
        let one = json!({ "anyOf": named("a") });
        assert_eq!(work(one.clone()).expressions, 30);
        let product = json!({ "allOf": [one, { "anyOf": named("b") }] });
        assert_eq!(work(product).expressions, 30 * 30 * 2);
        let names: Map<String, Value> = (0..10).map(|i| (format!("{i}"), json!({}))).collect();
        let alone = json!({ "type": "object", "patternProperties": names });
        assert_eq!(work(alone.clone()).comparisons, 55);
        let mut repeated = vec![alone];
        repeated.extend(vec![json!({ "type": "object" }); 100]);
        assert_eq!(work(json!({ "allOf": repeated })).comparisons, 55 * 101);
        let options: Vec<Value> = (0..2_000).map(|_| json!({ "type": "object" })).collect();
        let big: Vec<usize> = (0..3_000).collect();
        let copies = json!({ "allOf": [{ "anyOf": options },
            { "type": "object", "properties": { "a": { "enum": big } } }] });
        assert!(matches!(failure(&copies), Err(Uncounted::TooMuch { .. })));
        // All schemas of a constraint together.
        let options = vec![json!({ "type": "object" }); 12];
        let product = json!({ "allOf": vec![json!({ "anyOf": options }); 4] });
        let mut work = SchemaWork::default();
        assert_eq!(add_schema_work(&product, &mut work), Ok(()));
        let others = (0..10).try_for_each(|_| add_schema_work(&product, &mut work));
        assert!(matches!(others, Err(Uncounted::TooMuch { .. })));
    }
}
