//! What a schema may contain, checked before any work is done for it.

use std::collections::HashSet;

use serde_json::Value;

use crate::structured::error::StructuredError;
use crate::structured::limits::StructuredLimits;

/// Checks a schema's size, depth, and the keywords whose cost is more than linear.
///
/// Returns its bytes as JSON text.
pub(crate) fn check_schema(
    schema: &Value,
    field: &str,
    limits: &StructuredLimits,
) -> Result<usize, StructuredError> {
    let too_large = |unit, limit, actual| {
        Err(StructuredError::TooLarge { field: field.to_owned(), unit, limit, actual })
    };
    let (mut one_of, mut patterns) = (0, 0);
    // Not recursive: the depth is what is to be found out.
    let mut open = vec![(schema, 1)];
    while let Some((value, depth)) = open.pop() {
        if depth > limits.schema_depth {
            return too_large("levels of nesting", limits.schema_depth, depth);
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|v| (v, depth + 1))),
            _ => continue,
        }
        let properties =
            value.get("properties").and_then(Value::as_object).map_or(0, |map| map.len());
        if properties > limits.schema_properties {
            return too_large("properties", limits.schema_properties, properties);
        }
        one_of += value.get("oneOf").and_then(Value::as_array).map_or(0, Vec::len);
        let expressions = value.get("patternProperties").and_then(Value::as_object);
        patterns += expressions.map_or(0, |map| map.len());
        let keys = expressions.into_iter().flat_map(|map| map.keys().map(String::as_str));
        let pattern = value.get("pattern").and_then(Value::as_str);
        for expression in keys.chain(pattern) {
            if expression.len() > limits.regex_bytes {
                return too_large("bytes of a pattern", limits.regex_bytes, expression.len());
            }
        }
    }
    let meeting = most_in_one_place(schema);
    if meeting > limits.schema_all_of {
        return too_large("patterns that meet in allOf", limits.schema_all_of, meeting);
    }
    if one_of > limits.schema_one_of {
        return too_large("alternatives under oneOf", limits.schema_one_of, one_of);
    }
    if patterns > limits.schema_patterns {
        return too_large("expressions under patternProperties", limits.schema_patterns, patterns);
    }
    let mut counter = Counter(0);
    // Neither the counter nor a `Value` can fail.
    let _ = serde_json::to_writer(&mut counter, schema);
    if counter.0 > limits.schema_bytes {
        return too_large("bytes of schema", limits.schema_bytes, counter.0);
    }
    Ok(counter.0)
}

/// Values that are looked at to find out where patterns meet: some ten milliseconds.
const MOST_WORK: usize = 1_000_000;

/// The most patterns that one value may have to match at once, counted from above: of what an `allOf` or
/// a `$ref` brings together, all that its branches lead to, where more than one has patterns.
fn most_in_one_place(root: &Value) -> usize {
    let mut work = MOST_WORK;
    let mut most = 0;
    let mut open = vec![root];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                open.extend(fields.values());
                if fields.contains_key("allOf") || fields.contains_key("$ref") {
                    let mut count = |key: &str, value| patterns_of(root, key, value, &mut work);
                    let is_own = |key: &str| !matches!(key, "allOf" | "$ref");
                    let own = fields.iter().filter(|(key, _)| is_own(key));
                    let own: usize = own.map(|(key, value)| count(key, value)).sum();
                    let members = fields.get("allOf").and_then(Value::as_array);
                    if own == 0 && members.is_none() {
                        continue;
                    }
                    let target = fields.get("$ref").map_or(0, |target| count("$ref", target));
                    let mut branches = vec![own, target];
                    branches.extend(members.into_iter().flatten().map(|m| count("allOf", m)));
                    if branches.iter().filter(|&&count| count > 0).count() > 1 {
                        most = most.max(branches.iter().sum());
                    }
                }
            }
            _ => {}
        }
    }
    most
}

/// Patterns in `value`, which stands under `key`, and in what it refers to, each place once.
///
/// Where `work` runs out nobody knows, and it counts as more than any limit.
fn patterns_of(root: &Value, key: &str, value: &Value, work: &mut usize) -> usize {
    let (mut count, mut seen, mut open) = (0, HashSet::new(), vec![(key, value)]);
    while let Some((key, value)) = open.pop() {
        let Some(left) = work.checked_sub(1) else { return MOST_WORK };
        *work = left;
        match (key, value) {
            ("pattern" | "format", Value::String(_)) => count += 1,
            ("$ref", Value::String(target)) if seen.insert(target.as_str()) => {
                let pointer = target.strip_prefix('#');
                // A name that is no pointer may be anywhere.
                let found = pointer.and_then(|pointer| root.pointer(pointer));
                open.push(("", found.unwrap_or(root)));
            }
            // Definitions count where something refers to them.
            ("$defs" | "definitions", _) => {}
            (_, Value::Array(items)) => open.extend(items.iter().map(|item| ("", item))),
            (_, Value::Object(fields)) => {
                open.extend(fields.iter().map(|(key, value)| (key.as_str(), value)));
            }
            _ => {}
        }
    }
    count
}

/// Counts what is written to it.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_count_where_they_meet() {
        let pattern = |i: usize| json!({ "pattern": format!(".*{i}") });
        let many: Vec<Value> = (0..20).map(pattern).collect();
        assert_eq!(most_in_one_place(&json!({ "allOf": many })), 20);
        assert_eq!(most_in_one_place(&json!({ "anyOf": many })), 0);
        // What people write: a reference with a description, definitions beside it.
        let definitions = json!({ "a": { "properties": {
            "x": pattern(1), "y": pattern(2), "z": { "format": "date" } } } });
        let wrapped = json!({ "allOf": [{ "$ref": "#/$defs/a" }], "description": "it",
            "$defs": definitions });
        assert_eq!(most_in_one_place(&wrapped), 0);
        let joined =
            json!({ "allOf": [{ "$ref": "#/$defs/a" }, pattern(3)], "$defs": definitions });
        assert_eq!(most_in_one_place(&joined), 4);
        // A chain, and a name that is no pointer.
        let chain = json!({ "$ref": "#/$defs/0", "$defs": {
            "0": { "$ref": "#/$defs/1", "pattern": "a" },
            "1": { "$ref": "#/$defs/2", "pattern": "b" },
            "2": { "$ref": "#/$defs/0", "pattern": "c" } } });
        assert!(most_in_one_place(&chain) >= 3);
        let named = json!({ "$ref": "#x", "pattern": "a", "$defs": { "y": { "$anchor": "x" } } });
        assert_eq!(most_in_one_place(&named), 2);
    }
}
