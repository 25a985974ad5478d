//! References brought to the one form that is followed: `#/` and names as they are.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::structured::schema_check::json_bytes;

/// Bytes of the parts of a schema that are copied to where a plain reference reaches them.
const MOST_COPIED: usize = 1 << 18;

/// Slashes in one name that are not escaped, plus one.
const MOST_HALVES: usize = 4;

const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// What holds schemas by names, which are no keywords.
const NAMED: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// What holds values and no schemas.
const VALUES: [&str; 5] = ["enum", "const", "default", "examples", "example"];

/// Rewrites references to anchors, to `$id`s and through names that are escaped. `$dynamicRef` and
/// `$recursiveRef` become `$ref` where one target is all there is. What leads nowhere stays, to be refused. All of the
/// schema is one document: an `$id` inside is a name, and no base for other references. What comes back are the
/// definitions that were added, and the pointers of what they are copies of.
pub(super) fn resolve(root: &mut Value) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let mut references = BTreeMap::new();
    collect(root, false, &mut Vec::new(), &mut names, &mut references);
    // A name that several parts have leads nowhere: which one is meant takes bases, or a value.
    let names = names.into_iter().filter_map(|(name, path)| Some((name, path?))).collect();
    let (mut copies, mut copied) = (Map::new(), 0);
    let mut origins = BTreeMap::new();
    for (reference, rewritten) in &mut references {
        let Some(path) = path_of(root, reference, &names) else { continue };
        let is_plain = path.iter().all(|name| !name.is_empty() && !name.contains('/'));
        let is_definition = path.len() == 2 && DEFINITIONS.contains(&path[0].as_str());
        let Some(target) = at_path(root, &path) else { continue };
        copied += if path.is_empty() || is_plain && is_definition {
            0
        } else {
            json_bytes(target, MOST_COPIED)
        };
        *rewritten = if path.is_empty() {
            "#".to_owned()
        } else if is_plain && (is_definition || copied > MOST_COPIED) {
            format!("#/{}", path.join("/"))
        } else if copied <= MOST_COPIED {
            // Other places change: `items` that are a list, say.
            let name = free_name(root, copies.len());
            copies.insert(name.clone(), target.clone());
            let pointer = path.iter().map(|name| format!("/{}", super::escaped(name)));
            origins.insert(name.clone(), pointer.collect());
            format!("#/$defs/{name}")
        } else {
            continue;
        };
    }
    references.retain(|_, rewritten| !rewritten.is_empty());
    rewrite(root, false, &references);
    for copy in copies.values_mut() {
        rewrite(copy, false, &references);
    }
    if copies.is_empty() {
        return origins;
    }
    if let Value::Object(fields) = root
        && let Value::Object(defs) = fields.entry("$defs").or_insert_with(|| json!({}))
    {
        defs.extend(copies);
    }
    origins
}

fn free_name(root: &Value, index: usize) -> String {
    let mut name = format!("copy{index}");
    while root.get("$defs").is_some_and(|defs| defs.get(&name).is_some()) {
        name.push('_');
    }
    name
}

/// Finds what has a name of its own, and every reference; `is_named` says that the fields of `value` are names.
fn collect(
    value: &Value,
    is_named: bool,
    path: &mut Vec<String>,
    names: &mut BTreeMap<String, Option<Vec<String>>>,
    references: &mut BTreeMap<String, String>,
) {
    match value {
        Value::Object(fields) => {
            for (keyword, value) in fields {
                if let (false, Value::String(text)) = (is_named, value) {
                    match keyword.as_str() {
                        "$anchor" | "$dynamicAnchor" => {
                            add_name(names, format!("#{text}"), path);
                        }
                        "$id" | "id" => {
                            let name = text.strip_suffix('#').unwrap_or(text).to_owned();
                            add_name(names, name, path);
                        }
                        key if REFERENCES.contains(&key) => {
                            references.insert(text.clone(), String::new());
                        }
                        _ => {}
                    }
                } else if is_named || !VALUES.contains(&keyword.as_str()) {
                    let is_named = !is_named && NAMED.contains(&keyword.as_str());
                    path.push(keyword.clone());
                    collect(value, is_named, path, names, references);
                    path.pop();
                }
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                path.push(index.to_string());
                collect(value, false, path, names, references);
                path.pop();
            }
        }
        _ => {}
    }
}

fn add_name(names: &mut BTreeMap<String, Option<Vec<String>>>, name: String, path: &[String]) {
    let entry = names.entry(name).or_insert_with(|| Some(path.to_vec()));
    if entry.as_deref() != Some(path) {
        *entry = None;
    }
}

/// Where a reference leads, as names that are not escaped.
fn path_of(
    root: &Value,
    reference: &str,
    names: &BTreeMap<String, Vec<String>>,
) -> Option<Vec<String>> {
    if let Some(path) = names.get(reference).filter(|_| !reference.is_empty()) {
        return Some(path.clone());
    }
    let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let mut path = match document {
        "" => Vec::new(),
        document => names.get(document)?.clone(),
    };
    match fragment {
        "" | "/" => {}
        fragment if fragment.starts_with('/') => {
            let literal = fragment[1..].split('/').map(str::to_owned);
            let literal: Vec<String> = path.iter().cloned().chain(literal).collect();
            if at_path(root, &literal).is_some() {
                return Some(literal);
            }
            let names: Vec<String> = fragment[1..].split('/').map(unescaped).collect();
            path =
                longest_names(at_path(root, &path)?, &names).map(|rest| [path, rest].concat())?;
        }
        anchor => path = names.get(&format!("#{anchor}"))?.clone(),
    }
    at_path(root, &path).map(|_| path)
}

/// A name in a JSON pointer inside a URI.
fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    let text = String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned());
    text.replace("~1", "/").replace("~0", "~")
}

/// The path of `names`, some of which may be halves of a name with a slash that somebody did not escape.
fn longest_names(value: &Value, names: &[String]) -> Option<Vec<String>> {
    if names.is_empty() {
        return Some(Vec::new());
    }
    (1..=names.len().min(MOST_HALVES)).find_map(|count| {
        let name = names[..count].join("/");
        let inner = at_path(value, std::slice::from_ref(&name))?;
        let rest = longest_names(inner, &names[count..])?;
        Some([vec![name], rest].concat())
    })
}

fn at_path<'a>(root: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(root, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    })
}

/// Writes references as they were resolved; `is_named` as of [`collect`].
fn rewrite(value: &mut Value, is_named: bool, references: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for keyword in ["$dynamicRef", "$recursiveRef"] {
                if is_named || fields.contains_key("$ref") {
                    break;
                }
                if let Some(Value::String(target)) = fields.get(keyword)
                    && references.contains_key(target)
                {
                    let target = Value::String(target.clone());
                    fields.shift_remove(keyword);
                    fields.insert("$ref".to_owned(), target);
                }
            }
            for (keyword, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if keyword == "$ref" && !is_named => {
                        if let Some(rewritten) = references.get(text) {
                            text.clone_from(rewritten);
                        }
                    }
                    value if is_named || !VALUES.contains(&keyword.as_str()) => {
                        let is_named = !is_named && NAMED.contains(&keyword.as_str());
                        rewrite(value, is_named, references);
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rewrite(value, false, references)),
        _ => {}
    }
}
