//! JSON Schema's own test suite, keyword by keyword: what is followed and what is not.
//!
//! The suite is not part of this repository (PyPI's source distribution of `jsonschema` has it):
//! `LIGHTGLM_SCHEMA_SUITE=.../tests/draft2020-12 cargo test --release --workspace --test structured suite -- --nocapture`
//! prints the table of docs/structured.md.

use std::path::Path;

use lightglm_serve::structured::loosen;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::accepts;
use crate::toy::Fixture;

/// Orders of members that are tried: replies have the schema's, the suite's values have any.
const MOST_ORDERS: usize = 200;

#[derive(Deserialize)]
struct Group {
    schema: Value,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    data: Value,
    valid: bool,
}

#[derive(Default, Debug)]
struct Count {
    schemas: usize,
    told: usize,
    refused: usize,
    right: usize,
    too_strict: usize,
    too_loose_and_told: usize,
    too_loose: usize,
}

#[test]
fn suite() {
    let Some(folder) = std::env::var_os("LIGHTGLM_SCHEMA_SUITE") else {
        println!("skipped: LIGHTGLM_SCHEMA_SUITE names no folder");
        return;
    };
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "json"));
    files.sort();
    let fixture = Fixture::new();
    let mut silent = Vec::new();
    println!(
        "| file | schemas | told | refused | values right | refused wrongly | accepted, told | accepted wrongly |"
    );
    for path in files {
        let count = count(&fixture, &path, &mut silent);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let Count { schemas, told, refused, right, too_strict, too_loose_and_told, too_loose } =
            count;
        println!(
            "| {name} | {schemas} | {told} | {refused} | {right} | {too_strict} | {too_loose_and_told} | {too_loose} |"
        );
    }
    for line in &silent {
        println!("{line}");
    }
}

fn count(fixture: &Fixture, path: &Path, silent: &mut Vec<String>) -> Count {
    let groups: Vec<Group> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut count = Count::default();
    for Group { mut schema, tests } in groups {
        let (original, mut told) = (schema.clone(), Vec::new());
        loosen(&mut schema, "#", false, &mut told);
        count.schemas += 1;
        if let Err(error) = accepts(fixture, &schema, "") {
            count.refused += 1;
            silent.push(format!("refused {original}: {error}"));
            continue;
        }
        count.told += usize::from(!told.is_empty());
        for Test { data, valid } in tests {
            let accepted = orders(&data)
                .iter()
                .any(|it| accepts(fixture, &schema, &it.to_string()) == Ok(true));
            match (valid, accepted) {
                (true, true) | (false, false) => count.right += 1,
                (true, false) => {
                    count.too_strict += 1;
                    silent.push(format!("too strict {original}: {data}"));
                }
                (false, true) if told.is_empty() => {
                    count.too_loose += 1;
                    silent.push(format!("too loose {original}: {data}"));
                }
                (false, true) => count.too_loose_and_told += 1,
            }
        }
    }
    count
}

/// A value with its members in other orders, too.
fn orders(value: &Value) -> Vec<Value> {
    let mut all = match value {
        Value::Object(fields) => {
            let mut all = vec![Map::new()];
            for (name, value) in fields {
                let inner = orders(value);
                let mut more = Vec::new();
                for map in &all {
                    for value in &inner {
                        for at in 0..=map.len() {
                            let mut entries: Vec<_> = map.clone().into_iter().collect();
                            entries.insert(at, (name.clone(), value.clone()));
                            more.push(entries.into_iter().collect());
                        }
                    }
                }
                more.truncate(MOST_ORDERS);
                all = more;
            }
            all.into_iter().map(Value::Object).collect()
        }
        Value::Array(items) => {
            let mut all = vec![Vec::new()];
            for item in items {
                let inner = orders(item);
                let more = all.iter().flat_map(|list| {
                    inner.iter().map(|item| [list.clone(), vec![item.clone()]].concat())
                });
                all = more.take(MOST_ORDERS).collect();
            }
            all.into_iter().map(Value::Array).collect()
        }
        value => vec![value.clone()],
    };
    all.truncate(MOST_ORDERS);
    all
}
