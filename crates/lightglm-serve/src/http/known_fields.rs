//! `KnownFields`: which fields requests have, to name those that nobody reads.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::shorten::shortened;

/// Names in one line of the log.
const MOST: usize = 16;

/// The fields of each path's request.
pub(super) struct KnownFields(HashMap<String, HashSet<String>>);

impl KnownFields {
    /// Those of an OpenAPI document.
    pub(super) fn of(document: &str) -> Self {
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let paths = document["paths"].as_object().into_iter().flatten();
        let fields = paths.filter_map(|(path, item)| {
            let body = &item["post"]["requestBody"]["content"]["application/json"]["schema"];
            let schema = document.pointer(body["$ref"].as_str()?.strip_prefix('#')?)?;
            let names = schema["properties"].as_object()?.keys().cloned().collect();
            Some((path.clone(), names))
        });
        Self(fields.collect())
    }

    /// The fields of a request that its path does not know, shortened; null asks for nothing.
    pub(super) fn unknown(&self, path: &str, request: &Value) -> Vec<String> {
        let Some(known) = self.0.get(path) else { return Vec::new() };
        let fields = request.as_object().into_iter().flatten();
        let unknown = fields.filter(|(name, value)| !known.contains(*name) && !value.is_null());
        unknown.map(|(name, _)| shortened(name)).take(MOST).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_reads_is_named() {
        let document = json!({
            "paths": {"/a": {"post": {"requestBody": {"content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/A"}}}}}}},
            "components": {"schemas": {"A": {"properties": {"x": {}, "y": {}}}}},
        });
        let known = KnownFields::of(&document.to_string());
        let request = json!({"x": 1, "z": 2, "n": null, "y": {"w": 1}});
        assert_eq!(known.unknown("/a", &request), ["z"]);
        assert!(known.unknown("/b", &request).is_empty());
        assert!(KnownFields::of("").unknown("/a", &request).is_empty());
    }
}
