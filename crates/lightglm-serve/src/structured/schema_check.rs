//! What a schema may contain, checked before any work is done for it.

use serde_json::Value;

use crate::structured::error::StructuredError;
use crate::structured::limits::StructuredLimits;
use crate::structured::schema_work::{SchemaWork, Uncounted, add_schema_work};

/// Checks a schema's size, depth, and the keywords whose cost is more than linear; `work` is that for
/// the schemas before it, and this one's is added.
pub(crate) fn check_schema(
    schema: &Value,
    field: &str,
    limits: &StructuredLimits,
    work: &mut SchemaWork,
) -> Result<(), StructuredError> {
    let too_large = |unit, limit, actual| {
        Err(StructuredError::TooLarge { field: field.to_owned(), unit, limit, actual })
    };
    let bytes = json_bytes(schema, limits.schema_bytes);
    if bytes > limits.schema_bytes {
        return too_large("bytes of schema", limits.schema_bytes, bytes);
    }
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
    if one_of > limits.schema_one_of {
        return too_large("alternatives under oneOf", limits.schema_one_of, one_of);
    }
    if patterns > limits.schema_patterns {
        return too_large("expressions under patternProperties", limits.schema_patterns, patterns);
    }
    add_schema_work(schema, work).map_err(|uncounted| match uncounted {
        Uncounted::TooMuch { unit, limit } => {
            let actual = limit.saturating_add(1);
            StructuredError::TooLarge { field: field.to_owned(), unit, limit, actual }
        }
        Uncounted::Broken { reason } => {
            StructuredError::Refused { field: field.to_owned(), reason }
        }
    })?;
    for (unit, limit, actual) in [
        ("expressions for one string", limits.schema_all_of, work.meeting),
        ("expressions to read", limits.schema_expressions, work.expressions),
        ("comparisons of patternProperties", limits.schema_comparisons, work.comparisons),
    ] {
        if actual > limit {
            return too_large(unit, limit, actual);
        }
    }
    Ok(())
}

/// Bytes of a value as JSON text, counted up to a little over `most`.
pub(crate) fn json_bytes(value: &Value, most: usize) -> usize {
    let mut counter = Counter { bytes: 0, most };
    // It fails where it has seen enough.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.bytes
}

/// Counts what is written to it.
struct Counter {
    bytes: usize,
    most: usize,
}

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes += bytes.len();
        if self.bytes > self.most { Err(std::io::ErrorKind::Other.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
