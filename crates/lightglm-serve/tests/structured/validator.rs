//! JSON Schema, as much of it as the tests use, checked in the plainest way.

use regex::Regex;
use serde_json::Value;

/// Whether `schema`, a part of `root`, accepts `value`.
pub(crate) fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(keywords) = schema.as_object() else {
        return schema.as_bool().unwrap();
    };
    keywords
        .iter()
        .all(|(keyword, argument)| keyword_accepts(root, schema, keyword, argument, value))
}

fn keyword_accepts(root: &Value, schema: &Value, keyword: &str, a: &Value, value: &Value) -> bool {
    let number = a.as_f64().unwrap_or(f64::NAN);
    let sub = |schema: &Value, value: &Value| accepts(root, schema, value);
    match keyword {
        "$defs" | "description" | "title" => true,
        "$ref" => sub(root.pointer(&a.as_str().unwrap()[1..]).unwrap(), value),
        "type" => match a {
            Value::Array(types) => types.iter().any(|name| has_type(name, value)),
            name => has_type(name, value),
        },
        "const" => same(a, value),
        "enum" => a.as_array().unwrap().iter().any(|option| same(option, value)),
        "anyOf" => a.as_array().unwrap().iter().any(|option| sub(option, value)),
        "oneOf" => a.as_array().unwrap().iter().filter(|option| sub(option, value)).count() == 1,
        "allOf" => a.as_array().unwrap().iter().all(|option| sub(option, value)),
        "minimum" => value.as_f64().is_none_or(|x| x >= number),
        "maximum" => value.as_f64().is_none_or(|x| x <= number),
        "multipleOf" => value.as_f64().is_none_or(|x| (x / number).fract() == 0.0),
        "minLength" => value.as_str().is_none_or(|s| s.chars().count() as f64 >= number),
        "maxLength" => value.as_str().is_none_or(|s| s.chars().count() as f64 <= number),
        "pattern" => {
            let pattern = Regex::new(a.as_str().unwrap()).unwrap();
            value.as_str().is_none_or(|s| pattern.is_match(s))
        }
        "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= number),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as f64 <= number),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| sub(a, item))),
        "required" => value.as_object().is_none_or(|fields| {
            a.as_array().unwrap().iter().all(|name| fields.contains_key(name.as_str().unwrap()))
        }),
        "properties" => value.as_object().is_none_or(|fields| {
            fields.iter().all(|(name, field)| a.get(name).is_none_or(|schema| sub(schema, field)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|fields| {
            let known = |name: &String| schema["properties"].get(name).is_some();
            fields.iter().all(|(name, field)| known(name) || sub(a, field))
        }),
        other => panic!("the validator does not know {other}"),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn has_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the validator does not know the type {other}"),
    }
}
