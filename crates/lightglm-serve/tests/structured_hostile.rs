//! Constraints that are sent to hurt: every one is refused or followed, soon.
//!
//! A test binary of its own, so that the processor's time is this test's alone.

#[path = "structured/toy.rs"]
#[allow(dead_code)]
mod toy;

use std::time::{Duration, Instant};

use lightglm_serve::structured::{Constraint, ToolSpec};
use serde_json::{Value, json};

use crate::toy::{Fixture, Mood};

/// For compiling, and for 30 steps.
const PATIENCE: Duration = Duration::from_secs(2);

fn nested(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(json!({ "type": "integer" }), |inner, _| wrap(inner))
}

fn many(count: usize, make: impl Fn(usize) -> Value) -> Value {
    (0..count).map(make).collect()
}

fn object_of(count: usize, make: impl Fn(usize) -> Value) -> Value {
    Value::Object((0..count).map(|i| (format!("key{i}"), make(i))).collect())
}

fn schemas() -> Vec<(&'static str, Value)> {
    let strings = |count| many(count, |i| json!(format!("value number {i}")));
    let all_of_any_of = |outer: usize, inner: usize| {
        json!({ "allOf": many(outer, |i| json!({ "anyOf": many(inner, |j| json!({
            "type": "object", "properties": { format!("p{i}"): { "const": j } } })) })) })
    };
    let all_of_one_of = |outer: usize, inner: usize| {
        json!({ "allOf": many(outer, |i| json!({ "oneOf": many(inner, |j| json!({
            "type": "object", "properties": { format!("p{i}"): { "const": j } },
            "required": [format!("p{i}")] })) })) })
    };
    let heavy = |i: usize| {
        let letter = char::from(b'a' + i as u8);
        json!({ "type": "string", "pattern": format!(".*{letter}.*{i}.*") })
    };
    vec![
        ("huge enum", json!({ "enum": strings(8_000) })),
        ("huge typed enum", json!({ "type": "string", "enum": strings(8_000) })),
        ("enum of numbers", json!({ "enum": many(20_000, |i| json!(i * 7919)) })),
        ("enum of floats", json!({ "enum": many(10_000, |i| json!(i as f64 * 1.0001)) })),
        ("enum of objects", json!({ "enum": many(2_000, |i| json!({ "a": i, "b": [i, "x"] })) })),
        ("too many bytes", json!({ "enum": strings(100_000) })),
        ("too deep", nested(300, |inner| json!({ "items": inner }))),
        ("deep arrays", nested(31, |inner| json!({ "type": "array", "items": inner }))),
        (
            "deep objects",
            nested(20, |inner| {
                json!({ "type": "object", "properties": { "a": inner,
            "b": { "type": "string" }, "c": { "type": "number" } } })
            }),
        ),
        (
            "deep anyOf",
            nested(20, |inner| {
                json!({ "anyOf": [inner.clone(), { "type": "array",
            "items": { "type": "string" } }] })
            }),
        ),
        (
            "doubling anyOf",
            nested(10, |inner| {
                json!({ "anyOf": [{ "items": inner.clone() },
            { "properties": { "a": inner } }] })
            }),
        ),
        (
            "wide object",
            json!({ "type": "object", "properties":
            object_of(3_000, |_| json!({ "type": "string" })) }),
        ),
        (
            "wide optional objects",
            json!({ "type": "object", "properties": object_of(50, |_| json!({
            "type": "object", "properties": object_of(50, |_| json!({ "type": "integer" })) })) }),
        ),
        (
            "wide object, required",
            json!({ "type": "object", "properties":
            object_of(3_000, |_| json!({})), "required": many(3_000, |i| json!(format!("key{i}"))) }),
        ),
        (
            "at most one of many",
            json!({ "type": "object", "properties":
            object_of(600, |_| json!({ "type": "string" })), "maxProperties": 1,
            "additionalProperties": false }),
        ),
        (
            "patterns that meet",
            json!({ "allOf": many(20, |i| json!({ "type": "string",
            "pattern": format!(".*{}.*{i}.*", char::from(b'a' + i as u8)) })) }),
        ),
        (
            "patterns that meet by reference",
            json!({ "$ref": "#/$defs/d0", "$defs": Value::Object((0..20).map(|i|
            (format!("d{i}"), json!({ "$ref": format!("#/$defs/d{}", (i + 1) % 20), "type": "string",
            "pattern": format!(".*{}.*{i}.*", char::from(b'a' + i as u8)) }))).collect()) }),
        ),
        (
            "as many patterns as may meet",
            json!({ "allOf": many(8, |i| json!({ "type": "string",
            "pattern": format!("(.*[{0}]){{1,40}}.*{i}.*", char::from(b'a' + i as u8)) })) }),
        ),
        (
            "patterns that meet in alternatives",
            json!({ "allOf": many(20, |i| json!({ "anyOf": [heavy(i), { "type": "null" }] })) }),
        ),
        (
            "patterns that meet level by level",
            (0..20).fold(json!({}), |inner, i| json!({ "anyOf": [heavy(i)], "allOf": [inner] })),
        ),
        (
            "patterns that meet under a keyword's name",
            json!({ "properties": { "$defs": { "allOf": many(20, heavy) } }, "required": ["$defs"] }),
        ),
        (
            "patterns that meet by escaped references",
            json!({ "$ref": "#/$defs/~10", "$defs": Value::Object((0..20).map(|i|
            (format!("~1{i}"), if i == 19 { heavy(i) } else { json!({ "type": "string",
            "$ref": format!("#/$defs/~1{}", i + 1), "pattern": heavy(i)["pattern"] }) }))
            .chain((0..20).map(|i| (format!("/{i}"), json!({})))).collect()) }),
        ),
        (
            "patterns that meet in a property",
            json!({ "allOf": many(20, |i| json!({ "type": "object", "properties": {
            "ab": heavy(i) }, "required": ["ab"] })) }),
        ),
        (
            "patterns that meet by names",
            json!({ "allOf": many(20, |i| json!({ "type": "object", "required": ["ab"],
            "patternProperties": { "^a": heavy(i) } })) }),
        ),
        (
            "patterns that meet in what is additional",
            json!({ "allOf": many(20, |i| json!({ "type": "object", "required": ["ab"],
            "additionalProperties": heavy(i) })) }),
        ),
        (
            "patterns in every combination",
            json!({ "allOf": many(2, |i| json!({ "anyOf": many(100, |j| json!({ "type": "object",
            "properties": { format!("p{i}"): { "const": j }, "s": { "type": "string",
            "pattern": format!("^\\p{{L}}{{5}}{j}.*{i}") } }, "required": ["s"] })) })) }),
        ),
        (
            "patternProperties compared again and again",
            json!({ "allOf": many(300, |i| if i == 0 { json!({ "type": "object",
            "patternProperties": Value::Object((0..32).map(|i|
            (format!("^x{i}y.*(a|b{i}).{{{i}}}$"), json!({}))).collect()) }) } else {
            json!({ "type": "object", "maxProperties": i }) }) }),
        ),
        (
            "copies of copies",
            json!({ "allOf": [{ "anyOf": many(2_000, |_| json!({ "type": "object" })) },
            { "type": "object", "properties": { "a": { "enum": many(5_000, |i| json!(i)) } } }] }),
        ),
        (
            "oneOf in every combination",
            json!({ "allOf": many(2, |i| json!({ "oneOf": many(110, |j| json!({ "type": "object",
            "properties": { format!("p{i}"): { "const": format!("{j}") } },
            "required": [format!("p{i}")] })) })) }),
        ),
        (
            "one schema for many names",
            json!({ "type": "object", "additionalProperties": { "type": "string",
            "pattern": "^\\p{L}{3,9}$" }, "required": many(5_000, |i| json!(format!("{i}"))) }),
        ),
        (
            "patterns of their own",
            json!({ "type": "object", "properties": object_of(500, |i| json!({ "type": "string",
            "format": "date", "description": format!("the date {i}") })),
            "required": many(500, |i| json!(format!("key{i}"))) }),
        ),
        (
            "variants with patterns",
            json!({ "anyOf": many(20, |i| json!({ "type": "object", "properties": {
            "kind": { "const": format!("kind {i}") }, "id": { "type": "string",
            "pattern": format!("^{i}-[0-9a-f]{{8}}$") }, "at": { "$ref": "#/$defs/time" } },
            "required": ["kind", "id", "at"], "additionalProperties": false })),
            "$defs": { "time": { "type": "string", "format": "date-time" } } }),
        ),
        (
            "patterns in examples",
            json!({ "allOf": [{ "type": "integer", "format": "int64", "minimum": 0,
            "examples": many(20, heavy), "default": { "pattern": "x", "format": "y" } },
            { "type": "integer", "maximum": 20 }] }),
        ),
        ("$ref to itself", json!({ "$ref": "#" })),
        (
            "$ref loop",
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" },
            "b": { "$ref": "#/$defs/a" } } }),
        ),
        (
            "$ref loop with siblings",
            json!({ "$ref": "#/$defs/a", "$defs": {
            "a": { "allOf": [{ "$ref": "#/$defs/b" }, { "type": "object" }] },
            "b": { "allOf": [{ "$ref": "#/$defs/a" }, { "type": "object" }] } } }),
        ),
        ("$ref out", json!({ "$ref": "http://localhost/secret.json" })),
        ("$ref to a file", json!({ "$ref": "file:///etc/passwd" })),
        (
            "$ref doubling",
            json!({ "$ref": "#/$defs/d0", "$defs": Value::Object((0..25).map(|i|
            (format!("d{i}"), json!({ "allOf": [{ "$ref": format!("#/$defs/d{}", i + 1) },
            { "$ref": format!("#/$defs/d{}", i + 1) }] }))).chain([("d25".to_owned(),
            json!({ "type": "object" }))]).collect()) }),
        ),
        (
            "$ref chain",
            json!({ "$ref": "#/$defs/d0", "$defs": Value::Object((0..2_500).map(|i|
            (format!("d{i}"), json!({ "items": { "$ref": format!("#/$defs/d{}", i + 1) } })))
            .chain([("d2500".to_owned(), json!({}))]).collect()) }),
        ),
        (
            "$ref chain of allOf",
            json!({ "$ref": "#/$defs/d0", "$defs": Value::Object((0..2_000).map(|i|
            (format!("d{i}"), json!({ "allOf": [{ "$ref": format!("#/$defs/d{}", i + 1) }] })))
            .chain([("d2000".to_owned(), json!({}))]).collect()) }),
        ),
        (
            "minItems",
            json!({ "type": "array", "minItems": 1_000_000_000, "items": { "type": "null" } }),
        ),
        ("minItems overflow", json!({ "type": "array", "minItems": u64::MAX })),
        ("maxItems", json!({ "type": "array", "maxItems": 1_000_000_000 })),
        (
            "minItems in minItems",
            nested(6, |inner| {
                json!({ "type": "array", "minItems": 1000,
            "maxItems": 100_000, "items": inner })
            }),
        ),
        ("minLength", json!({ "type": "string", "minLength": 1_000_000_000 })),
        ("maxLength", json!({ "type": "string", "maxLength": 4_000_000_000_u64 })),
        (
            "length and pattern",
            json!({ "type": "string", "minLength": 10_000, "maxLength": 20_000,
            "pattern": "^(a|b)*c$" }),
        ),
        ("minProperties", json!({ "type": "object", "minProperties": 1_000_000_000 })),
        (
            "patternProperties",
            json!({ "type": "object", "patternProperties":
            Value::Object((0..200).map(|i| (format!("^x{i}.*"), json!({}))).collect()) }),
        ),
        (
            "heavy patternProperties",
            json!({ "type": "object", "patternProperties":
            Value::Object((0..30).map(|i| (format!("^.*(a|b{i}).{{{i}}}$"), json!({}))).collect()),
            "properties": object_of(2_000, |_| json!({})) }),
        ),
        ("heavy pattern", json!({ "type": "string", "pattern": "(.*a.{200}b){50}" })),
        (
            "many patterns",
            json!({ "anyOf": many(500, |i| json!({ "type": "string",
            "pattern": format!("^.*{i}.{{0,50}}x$") })) }),
        ),
        ("oneOf", json!({ "oneOf": many(3_000, |i| json!({ "const": i })) })),
        ("allOf of oneOf", all_of_one_of(2, 250)),
        ("allOf of small oneOf", all_of_one_of(8, 8)),
        ("allOf of anyOf", all_of_any_of(3, 60)),
        ("allOf of small anyOf", all_of_any_of(20, 3)),
        ("multipleOf", json!({ "type": "integer", "multipleOf": 4_294_967_291_u64 })),
        ("multipleOf fraction", json!({ "type": "number", "multipleOf": 1e-9 })),
        (
            "multipleOf twice",
            json!({ "allOf": [{ "type": "integer", "multipleOf": 65521 },
            { "type": "integer", "multipleOf": 65537 }] }),
        ),
        ("huge bounds", json!({ "type": "integer", "minimum": 1e300, "maximum": 1e301 })),
        ("huge float bounds", json!({ "type": "number", "minimum": -1e300, "maximum": 1.5e308 })),
        ("huge const", json!({ "const": 1e300 })),
        ("tiny const", json!({ "const": 1e-300 })),
        ("bounds of i64", json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX })),
        ("control characters", json!({ "enum": ["\u{1}\u{7f}\u{0}", "你\u{2028}"] })),
        (
            "options from outside",
            json!({ "type": "object", "x-guidance": { "lenient": true,
            "whitespace_pattern": "(a*)*", "item_separator": "x", "unknown": 1 } }),
        ),
        ("wrong types", json!({ "type": 7, "properties": [], "minItems": "x" })),
        ("wrong type with other letters", json!({ "const": 1, "$ref": ["é".repeat(99)] })),
        ("impossible", json!({ "type": "integer", "minimum": 2, "maximum": 1 })),
        ("nothing", json!(false)),
        ("no schema", json!([1, 2])),
    ]
}

fn regexes() -> Vec<String> {
    vec![
        "(a|a)*{1000}".into(),
        "((a|a)*){1000}".into(),
        "(a*)*b".into(),
        "(.*a.{500}b){100}".into(),
        "(a{0,1000}){0,1000}".into(),
        "((((a{100}){100}){100}){100}){100}".into(),
        "(?:(?:.{0,200}x){0,200}y){0,200}".into(),
        "a{1000000000}".into(),
        "(.|\\p{L}|\\w){5000}".into(),
        ".*".repeat(2000),
        "(a|b|ab)*c".repeat(500),
        "(".repeat(4000) + &")".repeat(4000),
        "(".repeat(200) + "a" + &")*".repeat(200),
        "a?".repeat(3000) + &"a".repeat(1000),
        "[a-z]|".repeat(2000) + "x",
        "(?i)straße|ſ|K".repeat(100),
        "[".into(),
        "a\\".into(),
        "(?=a)b".into(),
        "\\bword\\b".into(),
        "/\nstart: /x".into(),
        "x/ | /y".into(),
        "a".repeat(100_000),
        "[^\\x00-\\x{10FFFF}]".into(),
    ]
}

/// Rules or terminals that are defined by each other.
fn chain(length: usize, name: &str, or: &str) -> String {
    let mut lark = format!("start: {name}0");
    for i in 0..length {
        lark += &format!("\n{name}{i}: {or}{name}{}", i + 1);
    }
    lark + &format!("\n{name}{length}: \"y\"")
}

fn larks() -> Vec<String> {
    vec![
        "start: start start | \"a\" |".into(),
        "start: a\na: b\nb: a".into(),
        "start: (\"a\"? \"a\"?)* \"b\"".into(),
        "start: a a a a a a\na: (a | b)*\nb: \"x\" | \"x\" \"x\" | \"xx\"".into(),
        "start: \"a\"~1000000000".into(),
        "start: x~1000\nx: y~1000\ny: z~1000\nz: \"a\" | \"b\"".into(),
        "start: <[401]>".into(),
        "start: <[*]>".into(),
        "start: <[400]> \"more\"".into(),
        "start: <|user|>".into(),
        "start: <end>".into(),
        "start: \"a\" <end> \"b\"".into(),
        "start: /./ <[^5]>".into(),
        "%llguidance { \"allow_invalid_utf8\": true }\nstart: /(?-u:[\\x80-\\xff]+)<end>/".into(),
        "start: @other".into(),
        "start: A\nA: A".into(),
        format!("start: %json {}", json!({ "oneOf": many(3_000, |i| json!({ "const": i })) })),
        format!("start: {}\"a\"{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("start: {}a{}", "[".repeat(5_000), "]".repeat(5_000)),
        chain(3_000, "a", "\"x\" | "),
        chain(4_500, "a", ""),
        chain(3_000, "A", "\"x\" | "),
        "start: \"a\" %regex { \"substring_chars\": \"".to_owned() + &"ab".repeat(10_000) + "\" }",
        "\u{0}".into(),
        "%import common.NOTHING\nstart: NOTHING".into(),
        "start: TEXT\nTEXT[max_tokens=0]: /.*/".into(),
    ]
}

fn constraints() -> Vec<(String, Constraint)> {
    let tools = |count: usize, schema: Value| {
        let tool = |i| ToolSpec { name: format!("tool{i}"), parameters: schema.clone() };
        Constraint::ToolCall { tools: (0..count).map(tool).collect(), parallel: true }
    };
    let mut all: Vec<(String, Constraint)> = vec![
        ("128 tools".into(), tools(128, json!({ "properties": object_of(20, |_| json!({})) }))),
        ("tools of trees".into(), tools(100, json!({ "properties": { "a": { "$ref": "#" } } }))),
        ("1000 tools".into(), tools(1000, json!({}))),
        ("choices".into(), Constraint::Choice((0..5_000).map(|i| i.to_string()).collect())),
        ("alike choices".into(), Constraint::Choice((1..300).map(|i| "a".repeat(i)).collect())),
    ];
    let schemas = schemas().into_iter();
    all.extend(schemas.map(|(name, schema)| (name.to_owned(), Constraint::JsonSchema(schema))));
    let shortened = |text: &str| text.chars().take(40).collect::<String>();
    all.extend(regexes().into_iter().map(|text| (shortened(&text), Constraint::Regex(text))));
    all.extend(larks().into_iter().map(|text| (shortened(&text), Constraint::Lark(text))));
    all
}

/// The time this process has had a processor for, which a busy machine does not change; the time of
/// day where the system does not tell.
fn time_used() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    ticks().map_or_else(|| START.elapsed(), |ticks| Duration::from_millis(ticks * 10))
}

/// Compiles and follows for up to 30 steps: what came of it, and the time for the one and the other.
fn run(fixture: &Fixture, constraint: &Constraint) -> (String, Duration, Duration) {
    let started = time_used();
    let compiled = fixture.compile(constraint);
    let compiling = time_used() - started;
    let outcome = match compiled {
        Err(error) => {
            assert!(error.field().is_some());
            let reason = error.to_string();
            assert!(reason.len() < 2_000 && !reason.contains("backtrace"), "{reason}");
            format!("refused: {}", reason.chars().take(150).collect::<String>())
        }
        Ok(mut processor) => {
            let reply = fixture.follow(&mut *processor, (3, Mood::Uniform, 30), |_, _| {});
            match reply {
                Ok(reply) => format!("{} tokens", reply.tokens.len()),
                Err(error) => format!("given up: {error}"),
            }
        }
    };
    (outcome.replace('\n', " "), compiling, time_used() - started - compiling)
}

#[test]
fn hostile_constraints_are_refused_or_followed_soon() {
    let fixture = Fixture::new();
    for (name, constraint) in constraints() {
        let (outcome, compiling, following) = run(&fixture, &constraint);
        println!("{:40} {compiling:9.1?} {following:9.1?} {outcome}", name.replace('\n', " "));
        assert!(compiling < PATIENCE, "{name}: compiled in {compiling:?}");
        assert!(following < PATIENCE, "{name}: followed for {following:?}");
    }
}
