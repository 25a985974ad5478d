//! The tables of docs/structured.md, in both languages, say what the code does.

use std::path::Path;

use lightglm_serve::structured::{Treatment, loosen, treatment};
use serde_json::json;

fn rows(file: &str) -> Vec<(String, String)> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let text = std::fs::read_to_string(docs.join(file)).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let keyword = cells.next()?.trim_end_matches('`').to_owned();
        Some((keyword, cells.next()?.to_owned()))
    });
    rows.collect()
}

#[test]
fn the_tables_are_the_code() {
    let words = |file: &str, treatment: Treatment| match (file, treatment) {
        ("structured.md", Treatment::Followed) => "followed",
        ("structured.md", Treatment::Dropped) => "dropped",
        ("structured.md", Treatment::Annotation) => "annotation",
        (_, Treatment::Followed) => "遵循",
        (_, Treatment::Dropped) => "去除",
        (_, Treatment::Annotation) => "注解",
    };
    let mut tables = ["structured.md", "structured.zh-CN.md"].map(|file| {
        let rows = rows(file);
        for (keyword, said) in &rows {
            assert_eq!(said, words(file, treatment(keyword)), "{file}: {keyword}");
        }
        rows.into_iter().map(|(keyword, _)| keyword).collect::<Vec<_>>()
    });
    assert_eq!(tables[0], tables[1]);
    assert!(tables[0].len() > 50, "{}", tables[0].len());
    tables[0].dedup();
    assert_eq!(tables[0], tables[1], "a keyword stands there twice");
}

#[test]
fn what_is_dropped_is_told() {
    for (schema, told) in [
        (json!({ "uniqueItems": true }), vec!["#/uniqueItems"]),
        (json!({ "uniqueItems": false, "then": {}, "minContains": 2 }), vec![]),
        (json!({ "if": {}, "then": {} }), vec!["#/if", "#/then"]),
        (json!({ "items": { "pattern": "(?=a)" } }), vec!["#/items/pattern"]),
        (
            json!({ "properties": { "a/b": { "not": { "type": "null" } } } }),
            vec!["#/properties/a~1b/not"],
        ),
        (json!({ "oneOf": [{ "type": "string" }, { "minLength": 2 }] }), vec!["#/oneOf"]),
        (json!({ "oneOf": [{ "type": "string" }, { "type": "integer" }] }), vec![]),
        // null is either.
        (
            json!({ "oneOf": [{ "type": "string", "nullable": true }, { "type": "integer", "nullable": true }] }),
            vec!["#/oneOf"],
        ),
        (json!({ "propertyNames": { "enum": ["a", "b"] } }), vec![]),
        (
            json!({ "propertyNames": { "enum": ["a", "bb"], "maxLength": 1 } }),
            vec!["#/propertyNames"],
        ),
        (json!({ "properties": { "a": {} }, "minProperties": 1 }), vec!["#/minProperties"]),
        // Places are those of the schema as it was written, each once.
        (
            json!({ "oneOf": [{ "type": "array", "uniqueItems": true }, { "type": "null" }] }),
            vec!["#/oneOf/0/uniqueItems"],
        ),
        (json!({ "items": [{ "uniqueItems": true }] }), vec!["#/items/0/uniqueItems"]),
        (
            json!({ "properties": { "a": { "uniqueItems": true }, "b": { "$ref": "#/properties/a" } } }),
            vec!["#/properties/a/uniqueItems"],
        ),
        (json!({ "unevaluatedProperties": false, "properties": {} }), vec![]),
        (json!({ "unevaluatedProperties": false, "allOf": [{}] }), vec!["#/unevaluatedProperties"]),
        (
            json!({ "patternProperties": { "a": {}, "b": {} }, "additionalProperties": false }),
            vec!["#/patternProperties"],
        ),
        (json!({ "patternProperties": { "^a+$": {}, "^b": {} } }), vec![]),
        (
            json!({ "$dynamicRef": "#n", "$defs": { "a": { "$dynamicAnchor": "n" }, "b": { "$dynamicAnchor": "n" } } }),
            vec!["#/$dynamicRef"],
        ),
        (json!({ "maximum": 1e300 }), vec!["#/maximum"]),
        (json!({ "title": "t", "deprecated": true, "example": { "not": 1 }, "x-any": 1 }), vec![]),
    ] {
        let (mut loose, mut was_told) = (schema.clone(), Vec::new());
        loosen(&mut loose, "#", false, &mut was_told);
        was_told.sort();
        assert_eq!(was_told, told, "{schema}");
        let (mut strict, mut was_told) = (schema.clone(), Vec::new());
        loosen(&mut strict, "#", true, &mut was_told);
        assert_eq!(was_told, Vec::<String>::new(), "{schema}");
    }
}

#[test]
fn what_says_the_same_is_rewritten() {
    for (schema, wanted) in [
        (
            json!({ "type": "string", "nullable": true }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
        ),
        (json!({ "minimum": 1, "exclusiveMinimum": true }), json!({ "exclusiveMinimum": 1 })),
        (json!({ "maximum": 1, "exclusiveMaximum": false }), json!({ "maximum": 1 })),
        // A property may have a keyword's name.
        (
            json!({ "properties": { "default": { "$ref": "#i" }, "$ref": { "type": "null" } }, "$defs": { "i": { "$anchor": "i" } } }),
            json!({ "properties": { "default": { "$ref": "#/$defs/i" }, "$ref": { "type": "null" } }, "$defs": { "i": { "$anchor": "i" } } }),
        ),
        // References keep what they lead to, wherever that goes.
        (
            json!({ "items": [{ "type": "null" }, { "$ref": "#/items/0" }] }),
            json!({ "prefixItems": [{ "type": "null" }, { "$ref": "#/$defs/copy0" }], "$defs": { "copy0": { "type": "null" } } }),
        ),
        (
            json!({ "$ref": "#/$defs/a", "nullable": true, "$defs": { "a": {} } }),
            json!({ "anyOf": [{ "$ref": "#/$defs/a" }, { "type": "null" }], "$defs": { "a": {} } }),
        ),
        (json!({ "maxLength": 2.0 }), json!({ "maxLength": 2 })),
        (
            json!({ "items": [{}], "additionalItems": false }),
            json!({ "prefixItems": [{}], "items": false }),
        ),
        (
            json!({ "anyOf": [{ "const": "a\u{0}" }, { "enum": ["\u{1}", "b"] }] }),
            json!({ "anyOf": [false, { "enum": ["b"] }] }),
        ),
        (json!({ "anyOf": [{ "not": {} }, {}] }), json!({ "anyOf": [false, {}] })),
        (json!({ "type": "string", "format": "binary" }), json!({ "type": "string" })),
        (
            json!({ "propertyNames": { "enum": ["a"] } }),
            json!({ "properties": { "a": true }, "additionalProperties": false }),
        ),
        (
            json!({ "propertyNames": { "pattern": "^a" }, "additionalProperties": {} }),
            json!({ "patternProperties": { "^a": {} }, "additionalProperties": false }),
        ),
        (
            json!({ "$ref": "#item", "$defs": { "i": { "$anchor": "item" } } }),
            json!({ "$ref": "#/$defs/i", "$defs": { "i": { "$anchor": "item" } } }),
        ),
        (
            json!({ "$dynamicRef": "#n", "$defs": { "i": { "$dynamicAnchor": "n" } } }),
            json!({ "$ref": "#/$defs/i", "$defs": { "i": {} } }),
        ),
        (
            json!({ "$ref": "#/$defs/a~1b", "$defs": { "a/b": { "type": "null" } } }),
            json!({ "$ref": "#/$defs/copy0", "$defs": { "a/b": { "type": "null" }, "copy0": { "type": "null" } } }),
        ),
        (
            json!({ "$ref": "https://a.b/c#/$defs/x", "$id": "https://a.b/c", "$defs": { "x": {} } }),
            json!({ "$ref": "#/$defs/x", "$id": "https://a.b/c", "$defs": { "x": {} } }),
        ),
    ] {
        for strict in [false, true] {
            let mut loose = schema.clone();
            loosen(&mut loose, "#", strict, &mut Vec::new());
            assert_eq!(loose, wanted, "{schema}");
        }
    }
}

/// What of a schema that is made to hurt: the work is bounded, and so is what is told.
#[test]
fn hostile_schemas_are_loosened_soon() {
    let begin = std::time::Instant::now();
    let values = |last: &str| {
        let mut values: Vec<String> = (0..220).map(|i| format!("{last}{i}")).collect();
        values.push("common".into());
        json!({ "enum": values })
    };
    let object = |of: &str| {
        let names: Vec<String> = (0..300).map(|i| format!("p{i}")).collect();
        let properties: serde_json::Map<_, _> = names
            .iter()
            .map(|name| (name.clone(), json!({ "$ref": format!("#/$defs/{of}") })))
            .collect();
        json!({ "type": "object", "properties": properties, "required": names })
    };
    let options: Vec<_> = (0..30).map(|i| object(if i % 2 == 0 { "a" } else { "b" })).collect();
    let mut schema = json!({ "oneOf": options, "$defs": { "a": values("a"), "b": values("b") } });
    loosen(&mut schema, "#", false, &mut Vec::new());
    let long = "n".repeat(30_000);
    let parts: serde_json::Map<_, _> =
        (0..1000).map(|i| (format!("a{i}"), json!({ "uniqueItems": true }))).collect();
    let mut told = Vec::new();
    loosen(&mut json!({ "properties": { long: { "properties": parts } } }), "#", false, &mut told);
    assert!(!told.is_empty() && told.iter().map(String::len).sum::<usize>() < 64 << 10);
    assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
}
