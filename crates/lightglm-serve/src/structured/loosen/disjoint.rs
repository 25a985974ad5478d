//! Whether alternatives exclude each other, as far as that is plain to see.

use serde_json::Value;

/// Values of two enums that are compared.
const MOST_VALUES: usize = 50_000;

/// Levels that are looked into, references included.
const MOST_LEVELS: usize = 12;

/// Whether no value is accepted by two of `options`, parts of `root`. Where no comparisons are `left` alternatives
/// count as overlapping.
pub(super) fn are_disjoint(root: &Value, options: &[Value], left: &mut usize) -> bool {
    let pairs = options.iter().enumerate();
    pairs
        .flat_map(|(at, a)| options[at + 1..].iter().map(move |b| (a, b)))
        .all(|(a, b)| Compare { root, left: &mut *left }.exclude(a, b, 0))
}

struct Compare<'a, 'l> {
    root: &'a Value,
    left: &'l mut usize,
}

impl<'a> Compare<'a, '_> {
    fn exclude(&mut self, a: &'a Value, b: &'a Value, level: usize) -> bool {
        if *self.left == 0 || level > MOST_LEVELS {
            return false;
        }
        *self.left -= 1;
        if a == &Value::Bool(false) || b == &Value::Bool(false) {
            return true;
        }
        // null is accepted by both.
        if [a, b].iter().all(|schema| schema.get("nullable") == Some(&Value::Bool(true))) {
            return false;
        }
        for (one, other) in [(a, b), (b, a)] {
            if let Some(target) = self.target(one)
                && self.exclude(target, other, level + 1)
            {
                return true;
            }
            for keyword in ["anyOf", "oneOf"] {
                if let Some(options) = one.get(keyword).and_then(Value::as_array)
                    && options.iter().all(|option| self.exclude(option, other, level + 1))
                {
                    return true;
                }
            }
            let all = one.get("allOf").and_then(Value::as_array);
            if all.into_iter().flatten().any(|part| self.exclude(part, other, level + 1)) {
                return true;
            }
        }
        types_exclude(a, b) || self.values_exclude(a, b) || self.properties_exclude(a, b, level)
    }

    /// Whether both are lists that have no value in common.
    fn values_exclude(&mut self, a: &Value, b: &Value) -> bool {
        let (Some(a), Some(b)) = (values(a), values(b)) else { return false };
        let comparisons = a.len().saturating_mul(b.len());
        *self.left = self.left.saturating_sub(comparisons / 64);
        comparisons < MOST_VALUES && values_exclude(&a, &b)
    }

    fn target(&self, schema: &Value) -> Option<&'a Value> {
        self.root.pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)
    }

    /// A property that both must have, and that cannot be both.
    fn properties_exclude(&mut self, a: &'a Value, b: &'a Value, level: usize) -> bool {
        let is_object = |schema: &Value| schema.get("type").is_some_and(|name| name == "object");
        let Some(properties) = a.get("properties").and_then(Value::as_object) else { return false };
        if !is_object(a) || !is_object(b) {
            return false;
        }
        properties.iter().any(|(name, own)| {
            let others = b.get("properties").and_then(|properties| properties.get(name));
            let both = is_required(a, name) && is_required(b, name);
            both && others.is_some_and(|other| self.exclude(own, other, level + 1))
        })
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|required| required.iter().any(|other| other == name))
}

fn types_exclude(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (types(a), types(b)) else { return false };
    let same = |a: &str, b: &str| {
        a == b || [a, b] == ["number", "integer"] || [a, b] == ["integer", "number"]
    };
    !a.iter().any(|a| b.iter().any(|b| same(a, b)))
}

fn types(schema: &Value) -> Option<Vec<&str>> {
    if let Some(values) = values(schema) {
        return Some(values.into_iter().map(type_of).collect());
    }
    match schema.get("type")? {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn values(schema: &Value) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

fn values_exclude(a: &[&Value], b: &[&Value]) -> bool {
    let same = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    };
    !a.iter().any(|a| b.iter().any(|b| same(a, b)))
}
