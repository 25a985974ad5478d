//! Schemas that people's libraries make: each compiles as a request's would, accepts what the library wrote, and
//! refuses what the library refuses, or says why it cannot.

#[path = "schemas/documented.rs"]
mod documented;
#[path = "schemas/suite.rs"]
mod suite;

use std::path::Path;

use lightglm_generation::TokenHistory;
use lightglm_serve::structured::{Constraint, loosen};
use serde::Deserialize;
use serde_json::Value;

use crate::toy::{EOS, Fixture, VOCAB_SIZE};

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    types: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    schema: Value,
    #[serde(default, deserialize_with = "given")]
    valid: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    invalid: Option<Value>,
}

/// A null is a value, too.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn golden(library: &str) -> Golden {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schemas");
    let text = std::fs::read_to_string(folder.join(format!("{library}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Whether replies under a constraint can be this text, or why there are none.
fn accepts(fixture: &Fixture, schema: &Value, text: &str) -> Result<bool, String> {
    let constraint = Constraint::JsonSchema(schema.clone());
    let mut processor = fixture.compile(&constraint).map_err(|error| error.to_string())?;
    let generated: Vec<u32> = text.bytes().map(u32::from).collect();
    for end in 0..=generated.len() {
        let mut logits = vec![0.0; VOCAB_SIZE];
        let history = TokenHistory { prompt: &[], generated: &generated[..end] };
        processor.process(history, &mut logits).map_err(|error| error.to_string())?;
        let next = generated.get(end).copied().unwrap_or(EOS[1]);
        if logits[next as usize] != 0.0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check(library: &str) {
    let fixture = Fixture::new();
    let golden = golden(library);
    assert!(golden.types.len() >= 60, "{}", golden.types.len());
    let mut faults = Vec::new();
    for Entry { name, schema, valid, invalid } in golden.types {
        let (mut loose, mut told) = (schema.clone(), Vec::new());
        loosen(&mut loose, "#", false, &mut told);
        let mut fault = |what: String| {
            faults.push(format!("{name}: {what}\n  {schema}\n  {loose}\n  {told:?}"))
        };
        match valid.map(|valid| (accepts(&fixture, &loose, &valid.to_string()), valid)) {
            Some((Ok(true), _)) => {}
            Some((Ok(false), valid)) => fault(format!("{valid} is refused")),
            Some((Err(error), _)) => fault(error),
            None => {
                if let Err(error) = accepts(&fixture, &loose, "") {
                    fault(error);
                }
            }
        }
        if let Some(invalid) = invalid
            && told.is_empty()
            && accepts(&fixture, &loose, &invalid.to_string()) == Ok(true)
        {
            fault(format!("{invalid} is accepted"));
        }
        // Strict: as told above or refused, and nothing is dropped.
        let (mut strict, mut dropped) = (schema.clone(), Vec::new());
        loosen(&mut strict, "#", true, &mut dropped);
        let compiled = fixture.compile(&Constraint::JsonSchema(strict)).err();
        if !dropped.is_empty() || compiled.is_some() == told.is_empty() {
            let compiled = compiled.map(|error| error.to_string());
            fault(format!("strict: {compiled:?}, dropped {dropped:?}"));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), golden.made_by, faults.join("\n"));
}

#[test]
fn pydantic() {
    check("pydantic");
}

#[test]
fn zod_4() {
    check("zod4");
}

#[test]
fn zod_3() {
    check("zod3");
}
