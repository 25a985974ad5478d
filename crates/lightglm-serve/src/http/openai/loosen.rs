//! What of a JSON schema cannot be enforced while a reply is written: dropped, and told.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde_json::{Map, Value, json};

/// Names what of the request's schemas is not enforced.
const NOT_ENFORCED: HeaderName = HeaderName::from_static("x-lightglm-not-enforced");
/// Bytes of that header.
const LONGEST: usize = 1024;

/// Keywords that no grammar follows.
const DROPPED: [&str; 15] = [
    "uniqueItems",
    "if",
    "then",
    "else",
    "not",
    "contains",
    "minContains",
    "maxContains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicAnchor",
];

/// Formats that are followed; any other says something to a reader alone.
const FORMATS: [&str; 11] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
    "unknown",
];

/// Keywords that have a schema, a list of schemas, or schemas by name.
const ONE: [&str; 4] = ["items", "additionalItems", "additionalProperties", "contentSchema"];
const LIST: [&str; 5] = ["anyOf", "oneOf", "allOf", "prefixItems", "items"];
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// Takes out of `schema` what cannot be enforced and says where it stood, behind `at`; with `strict` only what
/// asks for nothing (formats that are annotations, names that may be any), so that the rest is refused.
pub(super) fn loosen(schema: &mut Value, at: &str, strict: bool, told: &mut Vec<String>) {
    let Value::Object(fields) = schema else { return };
    name_by_properties(fields);
    if fields.get("format").is_some_and(|f| f.as_str().is_some_and(|f| !FORMATS.contains(&f))) {
        fields.remove("format");
    }
    for keyword in DROPPED {
        let asks = match fields.get(keyword) {
            None => continue,
            Some(value) => asks(keyword, value),
        };
        if !asks || !strict {
            fields.remove(keyword);
        }
        if asks && !strict {
            told.push(format!("{at}/{keyword}"));
        }
    }
    for (keyword, value) in fields.iter_mut() {
        let keyword = keyword.as_str();
        match value {
            Value::Object(named) if NAMED.contains(&keyword) => {
                for (name, schema) in named {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    loosen(schema, &format!("{at}/{keyword}/{name}"), strict, told);
                }
            }
            Value::Array(schemas) if LIST.contains(&keyword) => {
                for (index, schema) in schemas.iter_mut().enumerate() {
                    loosen(schema, &format!("{at}/{keyword}/{index}"), strict, told);
                }
            }
            schema if ONE.contains(&keyword) => {
                loosen(schema, &format!("{at}/{keyword}"), strict, told);
            }
            _ => {}
        }
    }
}

/// Whether a keyword that cannot be enforced asks for anything.
fn asks(keyword: &str, value: &Value) -> bool {
    match (keyword, value) {
        (_, Value::Bool(true)) => ["uniqueItems", "contains", "not"].contains(&keyword),
        ("uniqueItems" | "else", Value::Bool(false)) => keyword == "else",
        ("dependencies" | "dependentRequired" | "dependentSchemas", Value::Object(fields)) => {
            !fields.is_empty()
        }
        ("propertyNames", Value::Object(fields)) => {
            let is_any = |(key, value): (&String, &Value)| key == "type" && value == "string";
            !fields.iter().all(is_any)
        }
        ("$dynamicAnchor", _) => false,
        _ => true,
    }
}

/// Names out of a list are properties, each with what the others may be: a record of an enum.
fn name_by_properties(fields: &mut Map<String, Value>) {
    let names = fields.get("propertyNames").and_then(|names| names.get("enum"));
    let names: Option<Vec<String>> = names
        .and_then(Value::as_array)
        .and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    let has_others =
        ["properties", "patternProperties"].iter().any(|key| fields.contains_key(*key));
    let Some(names) = names.filter(|_| !has_others) else { return };
    let values = fields.remove("additionalProperties").unwrap_or(Value::Bool(true));
    let properties: Map<String, Value> =
        names.into_iter().map(|name| (name, values.clone())).collect();
    fields.remove("propertyNames");
    fields.insert("properties".to_owned(), Value::Object(properties));
    fields.insert("additionalProperties".to_owned(), json!(false));
}

/// Tells the client what is not enforced, in a header, and the log.
pub(in crate::http) fn tell(response: &mut Response, told: &[String]) {
    if told.is_empty() {
        return;
    }
    let mut text = told.join(", ");
    tracing::info!(not_enforced = %text, "loosened");
    text.retain(|character| character.is_ascii_graphic() || character == ' ');
    text.truncate(LONGEST);
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(NOT_ENFORCED, value);
    }
}
