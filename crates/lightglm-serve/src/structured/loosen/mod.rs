//! `loosen`: what of a JSON schema cannot be enforced while a reply is written is dropped, and told.
//!
//! Libraries write schemas for validators, which see a value when it is whole; a grammar has to know after each
//! token whether a value can still become right. What has a form that a grammar follows is brought to it here
//! (references, old drafts' keywords, names out of a list); of the rest a caller is told.

mod disjoint;
mod keywords;
mod references;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::disjoint::are_disjoint;
use crate::structured::pattern::{exclude_each_other, is_followed};

pub use self::keywords::{Treatment, treatment};

/// Keywords that have a schema, a list of schemas, or schemas by name.
const ONE: [&str; 4] = ["items", "additionalItems", "additionalProperties", "not"];
const LIST: [&str; 5] = ["anyOf", "oneOf", "allOf", "prefixItems", "items"];
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// Keywords whose argument says nothing about what is inside it but by a schema.
const IN_PLACE: [&str; 6] = ["$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"];

const COUNTS: [&str; 6] =
    ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"];

/// Patterns of one schema that are looked at; a schema with more is not loosened further.
const MOST_PATTERNS: usize = 1000;

/// Comparisons of alternatives, and of expressions, of one schema.
const MOST_COMPARISONS: usize = 200_000;
const MOST_PATTERN_PAIRS: usize = 500;

/// Brings `schema` to what a grammar can follow and adds to `told` where, behind `at`, something was dropped for
/// it. With `strict` nothing that asks for anything is dropped, so that compiling refuses it.
pub fn loosen(schema: &mut Value, at: &str, strict: bool, told: &mut Vec<String>) {
    let copies = references::resolve(schema);
    let root = schema.clone();
    let document = Document { root: &root, at, copies: &copies };
    Walk { document, strict, told, patterns: 0, pairs: 0, left: MOST_COMPARISONS }.walk(schema, at);
}

/// Largest bound of a number that is followed: what `i64` holds.
const MOST_BOUND: f64 = 9.2e18;

/// Places that are told of one schema, and the characters of a place: names are the client's.
const MOST_TOLD: usize = 64;
const LONGEST_TOLD: usize = 256;

/// The whole schema, and what its places are called.
struct Document<'a> {
    root: &'a Value,
    at: &'a str,
    /// Of definitions that were made: where what they are copies of stands.
    copies: &'a BTreeMap<String, String>,
}

struct Walk<'a> {
    document: Document<'a>,
    strict: bool,
    told: &'a mut Vec<String>,
    patterns: usize,
    /// Of expressions.
    pairs: usize,
    /// Comparisons of alternatives.
    left: usize,
}

impl Walk<'_> {
    fn walk(&mut self, schema: &mut Value, at: &str) {
        drop_unwritable(schema);
        if accepts_nothing(schema) {
            *schema = Value::Bool(false);
        }
        let Value::Object(fields) = schema else { return };
        let [is_list, is_one] =
            ["items", "oneOf"].map(|keyword| fields.get(keyword).is_some_and(Value::is_array));
        let has_any = fields.contains_key("anyOf");
        self.modernize(fields, at);
        self.name_by_properties(fields);
        close_unevaluated(fields);
        if fields.get("format").is_some_and(|f| f.as_str().is_none_or(|f| !is_format(f))) {
            fields.shift_remove("format");
        }
        self.drop_keywords(fields, at);
        self.drop_patterns(fields, at);
        self.drop_counts(fields, at);
        self.drop_bounds(fields, at);
        self.any_of_one_of(fields, at);
        let is_renamed = is_one && !has_any && !fields.contains_key("oneOf");
        for (keyword, value) in fields.iter_mut() {
            let keyword = keyword.as_str();
            // As the client wrote it.
            let written = match keyword {
                "prefixItems" if is_list => "items",
                "items" if is_list => "additionalItems",
                "anyOf" if is_renamed => "oneOf",
                keyword => keyword,
            };
            match value {
                Value::Object(named) if NAMED.contains(&keyword) => {
                    let is_root = at == self.document.at;
                    for (name, schema) in named {
                        let copied = self.document.copies.get(name);
                        let place = match copied.filter(|_| is_root && keyword == "$defs") {
                            Some(path) => format!("{at}{path}"),
                            None => format!("{at}/{written}/{}", escaped(name)),
                        };
                        self.walk(schema, &place);
                    }
                }
                Value::Array(schemas) if LIST.contains(&keyword) => {
                    for (index, schema) in schemas.iter_mut().enumerate() {
                        self.walk(schema, &format!("{at}/{written}/{index}"));
                    }
                }
                schema if ONE.contains(&keyword) => self.walk(schema, &format!("{at}/{written}")),
                _ => {}
            }
        }
        combine_last(fields);
        allow_null(schema);
    }

    fn tell(&mut self, at: &str, keyword: &str) {
        let place: String = at.chars().take(LONGEST_TOLD).collect();
        let place = format!("{place}/{keyword}");
        // A part that was copied is met twice.
        if self.told.len() < MOST_TOLD && !self.told.contains(&place) {
            self.told.push(place);
        }
    }

    /// Older drafts' ways to say what the newest one says otherwise.
    fn modernize(&mut self, fields: &mut Map<String, Value>, at: &str) {
        // Which draft it is does not matter any more.
        if at.ends_with('#') {
            fields.shift_remove("$schema");
        }
        if fields.get("items").is_some_and(Value::is_array) {
            let rest = fields.shift_remove("additionalItems");
            if let Some(list) = fields.shift_remove("items") {
                fields.insert("prefixItems".to_owned(), list);
            }
            fields.extend(rest.map(|rest| ("items".to_owned(), rest)));
        }
        fields.shift_remove("additionalItems");
        for keyword in COUNTS {
            let count = fields.get(keyword).and_then(Value::as_f64);
            // 2.0 is an integer.
            if let Some(count) = count.filter(|n| n.fract() == 0.0 && (0.0..MOST_BOUND).contains(n))
            {
                fields.insert(keyword.to_owned(), Value::from(count as u64));
            }
        }
        for (exclusive, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")]
        {
            if let Some(Value::Bool(is_exclusive)) = fields.get(exclusive).cloned() {
                fields.shift_remove(exclusive);
                let bound = if is_exclusive { fields.shift_remove(bound) } else { None };
                fields.extend(bound.map(|bound| (exclusive.to_owned(), bound)));
            }
        }
    }

    fn drop_keywords(&mut self, fields: &mut Map<String, Value>, at: &str) {
        let dropped: Vec<(String, bool)> = fields
            .iter()
            .filter(|(keyword, _)| keywords::DROPPED.contains(&keyword.as_str()))
            .map(|(keyword, value)| (keyword.clone(), asks(keyword, value, fields)))
            .collect();
        for (keyword, asks) in dropped {
            if !asks || !self.strict {
                fields.shift_remove(&keyword);
            }
            if asks && !self.strict {
                self.tell(at, &keyword);
            }
        }
    }

    /// Expressions that no automaton follows: those that look around, say.
    fn drop_patterns(&mut self, fields: &mut Map<String, Value>, at: &str) {
        if self.strict {
            return;
        }
        let is_lost = |walk: &mut Self, pattern: &str| {
            walk.patterns += 1;
            walk.patterns <= MOST_PATTERNS && !is_followed(pattern)
        };
        if let Some(Value::String(pattern)) = fields.get("pattern").cloned()
            && is_lost(self, &pattern)
        {
            fields.shift_remove("pattern");
            self.tell(at, "pattern");
        }
        let Some(Value::Object(named)) = fields.get_mut("patternProperties") else { return };
        let before = named.len();
        named.retain(|pattern, _| !is_lost(self, pattern));
        let all: Vec<&str> = named.keys().map(String::as_str).collect();
        self.pairs += all.len() * all.len() / 2;
        if self.pairs > MOST_PATTERN_PAIRS || !exclude_each_other(&all) {
            named.clear();
        }
        if named.len() < before {
            // What the lost ones would have named must stay possible.
            fields.shift_remove("additionalProperties");
            self.tell(at, "patternProperties");
        }
    }

    /// How many properties there are is followed where none is optional.
    fn drop_counts(&mut self, fields: &mut Map<String, Value>, at: &str) {
        if self.strict {
            return;
        }
        let properties = fields.get("properties").and_then(Value::as_object);
        let required: Vec<&str> = fields
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let is_fixed =
            properties.is_none_or(|map| map.keys().all(|name| required.contains(&name.as_str())));
        if is_fixed {
            return;
        }
        for keyword in ["minProperties", "maxProperties"] {
            if fields.shift_remove(keyword).is_some() {
                self.tell(at, keyword);
            }
        }
    }

    /// Numbers that no 64 bits hold bound nothing that anybody writes: those of a 32-bit float, say.
    fn drop_bounds(&mut self, fields: &mut Map<String, Value>, at: &str) {
        if self.strict {
            return;
        }
        for keyword in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
            if fields.get(keyword).and_then(Value::as_f64).is_some_and(|x| x.abs() > MOST_BOUND) {
                fields.shift_remove(keyword);
                self.tell(at, keyword);
            }
        }
    }

    /// Of alternatives that exclude each other one holds where any does; of others any may.
    fn any_of_one_of(&mut self, fields: &mut Map<String, Value>, at: &str) {
        let Some(Value::Array(options)) = fields.get("oneOf") else { return };
        let is_exact = are_disjoint(self.document.root, options, &mut self.left);
        if self.strict && !is_exact {
            return;
        }
        let Some(options) = fields.shift_remove("oneOf") else { return };
        if !fields.contains_key("anyOf") {
            fields.insert("anyOf".to_owned(), options);
        } else if let Value::Array(all) = fields.entry("allOf").or_insert_with(|| json!([])) {
            all.push(json!({ "anyOf": options }));
        }
        if !is_exact {
            self.tell(at, "oneOf");
        }
    }

    /// Names out of a list are properties, each with what the others may be: a record of an enum. Names that match
    /// an expression are `patternProperties`.
    fn name_by_properties(&mut self, fields: &mut Map<String, Value>) {
        let has_others =
            ["properties", "patternProperties"].iter().any(|key| fields.contains_key(*key));
        let Some(names) = fields.get("propertyNames").filter(|_| !has_others) else { return };
        if fields.contains_key("unevaluatedProperties") {
            return;
        }
        let only = |allowed: &[&str]| {
            names.as_object().is_some_and(|names| {
                names.keys().all(|key| allowed.contains(&key.as_str()) || is_annotation(key))
            })
        };
        let list = match (names.get("enum"), names.get("const")) {
            (Some(Value::Array(list)), None) if only(&["type", "enum"]) => {
                list.iter().map(|name| name.as_str().map(str::to_owned)).collect()
            }
            (None, Some(Value::String(name))) if only(&["type", "const"]) => {
                Some(vec![name.clone()])
            }
            _ => None,
        };
        let pattern = names.get("pattern").and_then(Value::as_str);
        let pattern = pattern.filter(|pattern| only(&["type", "pattern"]) && is_followed(pattern));
        let (keyword, names): (&str, Vec<String>) = match (list, pattern) {
            (Some(list), _) => ("properties", list),
            (None, Some(pattern)) => ("patternProperties", vec![pattern.to_owned()]),
            (None, None) => return,
        };
        let values = fields.shift_remove("additionalProperties").unwrap_or(Value::Bool(true));
        let named: Map<String, Value> =
            names.into_iter().map(|name| (name, values.clone())).collect();
        fields.shift_remove("propertyNames");
        fields.insert(keyword.to_owned(), Value::Object(named));
        fields.insert("additionalProperties".to_owned(), json!(false));
    }
}

/// Puts what combines schemas behind the object's own members: the compiler closes an object where it meets one
/// of these, and would not see patterns that come after.
fn combine_last(fields: &mut Map<String, Value>) {
    for keyword in ["allOf", "anyOf", "oneOf", "$ref"] {
        if let Some(schemas) = fields.shift_remove(keyword) {
            fields.insert(keyword.to_owned(), schemas);
        }
    }
}

/// A name in a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn is_format(format: &str) -> bool {
    keywords::FORMATS.contains(&format)
}

fn is_annotation(keyword: &str) -> bool {
    treatment(keyword) == Treatment::Annotation
}

/// Constants that no reply is: control characters have no escape there but the short ones.
fn drop_unwritable(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    let is_lost = fields.get("const").is_some_and(|value| !is_writable(value));
    let mut is_empty = false;
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        let before = values.len();
        values.retain(is_writable);
        is_empty = values.is_empty() && before > 0;
    }
    if is_lost || is_empty {
        *schema = Value::Bool(false);
    }
}

fn is_writable(value: &Value) -> bool {
    let is_text = |text: &str| {
        text.chars().all(|c| !c.is_ascii_control() || "\n\r\t\u{8}\u{c}\u{7f}".contains(c))
    };
    match value {
        Value::String(text) => is_text(text),
        Value::Array(items) => items.iter().all(is_writable),
        Value::Object(fields) => fields.iter().all(|(name, v)| is_text(name) && is_writable(v)),
        _ => true,
    }
}

/// `{ "not": {} }`, which is how some write `false`.
fn accepts_nothing(schema: &Value) -> bool {
    let Value::Object(fields) = schema else { return false };
    let is_all = |not: &Value| match not {
        Value::Bool(all) => *all,
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    fields.get("not").is_some_and(is_all) && fields.keys().all(|k| k == "not" || is_annotation(k))
}

/// Where nothing beside it evaluates anything, what is not evaluated is what is additional.
fn close_unevaluated(fields: &mut Map<String, Value>) {
    if IN_PLACE.iter().any(|keyword| fields.contains_key(*keyword)) {
        return;
    }
    for (keyword, plain) in
        [("unevaluatedProperties", "additionalProperties"), ("unevaluatedItems", "items")]
    {
        if fields.contains_key("contains") && plain == "items" {
            continue;
        }
        if let Some(schema) = fields.shift_remove(keyword) {
            fields.entry(plain).or_insert(schema);
        }
    }
}

/// OpenAPI 3.0's way to allow null.
fn allow_null(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if fields.shift_remove("nullable") != Some(Value::Bool(true)) {
        return;
    }
    if let Some(Value::String(name)) = fields.get("type")
        && name == "null"
    {
        return;
    }
    let definitions: Map<String, Value> = ["$defs", "definitions"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), fields.shift_remove(*name)?)))
        .collect();
    let said = std::mem::take(schema);
    *schema = json!({ "anyOf": [said, { "type": "null" }] });
    if let Value::Object(fields) = schema {
        fields.extend(definitions);
    }
}

/// Whether a keyword that cannot be enforced asks for anything.
fn asks(keyword: &str, value: &Value, fields: &Map<String, Value>) -> bool {
    match (keyword, value) {
        ("minContains" | "maxContains", _) => fields.contains_key("contains"),
        ("then" | "else", _) if !fields.contains_key("if") => false,
        ("if", _) => fields.contains_key("then") || fields.contains_key("else"),
        (_, Value::Bool(true)) => ["uniqueItems", "contains", "not"].contains(&keyword),
        ("uniqueItems" | "not", Value::Bool(false)) => false,
        ("dependencies" | "dependentRequired" | "dependentSchemas", Value::Object(fields)) => {
            !fields.is_empty()
        }
        ("propertyNames", Value::Object(fields)) => {
            let is_any = |(key, value): (&String, &Value)| {
                key == "type" && value == "string" || is_annotation(key)
            };
            !fields.iter().all(is_any)
        }
        ("$dynamicAnchor" | "$recursiveAnchor", _) => false,
        _ => true,
    }
}
