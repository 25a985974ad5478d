//! Constraints that are sent to hurt: every one is refused or followed, soon.
//!
//! A test binary of its own, so that the processor's time is this test's alone.

#[path = "structured/toy.rs"]
#[allow(dead_code)]
mod toy;

use std::time::{Duration, Instant};

use lightglm_generation::LogitsProcessor;
use lightglm_serve::structured::{Constraint, StructuredError, ToolSpec};
use serde_json::{Value, json};

use crate::Outcome::{Depends, Ends, GivesUp, GoesOn, Refused, TooLarge};
use crate::toy::{Fixture, Mood};

/// For compiling, and for 30 steps.
const PATIENCE: Duration = Duration::from_secs(2);

/// What comes of a constraint.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// Refused for its size, before it is compiled.
    TooLarge,
    /// Refused for another reason.
    Refused,
    /// Followed until a step takes too much.
    GivesUp,
    /// Followed for longer than anybody waits here.
    GoesOn,
    /// Followed to an end.
    Ends,
    /// Whether the build checks for overflow decides.
    Depends,
}

fn nested(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(json!({ "type": "integer" }), |inner, _| wrap(inner))
}

fn many(count: usize, make: impl Fn(usize) -> Value) -> Value {
    (0..count).map(make).collect()
}

fn object_of(count: usize, make: impl Fn(usize) -> Value) -> Value {
    Value::Object((0..count).map(|i| (format!("key{i}"), make(i))).collect())
}

fn schemas() -> Vec<(&'static str, Outcome, Value)> {
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
        ("huge enum", TooLarge, json!({ "enum": strings(8_000) })),
        ("huge typed enum", TooLarge, json!({ "type": "string", "enum": strings(8_000) })),
        ("enum of numbers", TooLarge, json!({ "enum": many(20_000, |i| json!(i * 7919)) })),
        ("enum of floats", Ends, json!({ "enum": many(10_000, |i| json!(i as f64 * 1.0001)) })),
        (
            "enum of objects",
            Ends,
            json!({ "enum": many(2_000, |i| json!({ "a": i, "b": [i, "x"] })) }),
        ),
        ("too many bytes", TooLarge, json!({ "enum": strings(100_000) })),
        ("too deep", TooLarge, nested(300, |inner| json!({ "items": inner }))),
        ("deep arrays", Ends, nested(31, |inner| json!({ "type": "array", "items": inner }))),
        (
            "deep objects",
            Ends,
            nested(20, |inner| {
                json!({ "type": "object", "properties": { "a": inner,
            "b": { "type": "string" }, "c": { "type": "number" } } })
            }),
        ),
        (
            "deep anyOf",
            Ends,
            nested(20, |inner| {
                json!({ "anyOf": [inner.clone(), { "type": "array",
            "items": { "type": "string" } }] })
            }),
        ),
        (
            "doubling anyOf",
            Ends,
            nested(10, |inner| {
                json!({ "anyOf": [{ "items": inner.clone() },
            { "properties": { "a": inner } }] })
            }),
        ),
        (
            "wide object",
            TooLarge,
            json!({ "type": "object", "properties":
            object_of(3_000, |_| json!({ "type": "string" })) }),
        ),
        (
            "wide optional objects",
            Ends,
            json!({ "type": "object", "properties": object_of(50, |_| json!({
            "type": "object", "properties": object_of(50, |_| json!({ "type": "integer" })) })) }),
        ),
        (
            "wide object, required",
            TooLarge,
            json!({ "type": "object", "properties":
            object_of(3_000, |_| json!({})), "required": many(3_000, |i| json!(format!("key{i}"))) }),
        ),
        (
            "at most one of many",
            Ends,
            json!({ "type": "object", "properties":
            object_of(600, |_| json!({ "type": "string" })), "maxProperties": 1,
            "additionalProperties": false }),
        ),
        (
            "patterns that meet",
            TooLarge,
            json!({ "allOf": many(20, |i| json!({ "type": "string",
            "pattern": format!(".*{}.*{i}.*", char::from(b'a' + i as u8)) })) }),
        ),
        (
            "patterns that meet by reference",
            Refused,
            json!({ "$ref": "#/$defs/d0", "$defs": Value::Object((0..20).map(|i|
            (format!("d{i}"), json!({ "$ref": format!("#/$defs/d{}", (i + 1) % 20), "type": "string",
            "pattern": format!(".*{}.*{i}.*", char::from(b'a' + i as u8)) }))).collect()) }),
        ),
        (
            "as many patterns as may meet",
            Refused,
            json!({ "allOf": many(8, |i| json!({ "type": "string",
            "pattern": format!("(.*[{0}]){{1,40}}.*{i}.*", char::from(b'a' + i as u8)) })) }),
        ),
        (
            "patterns that meet in alternatives",
            TooLarge,
            json!({ "allOf": many(20, |i| json!({ "anyOf": [heavy(i), { "type": "null" }] })) }),
        ),
        (
            "patterns that meet level by level",
            TooLarge,
            (0..20).fold(json!({}), |inner, i| json!({ "anyOf": [heavy(i)], "allOf": [inner] })),
        ),
        (
            "patterns that meet under a keyword's name",
            TooLarge,
            json!({ "properties": { "$defs": { "allOf": many(20, heavy) } }, "required": ["$defs"] }),
        ),
        (
            "patterns that meet by escaped references",
            TooLarge,
            json!({ "$ref": "#/$defs/~10", "$defs": Value::Object((0..20).map(|i|
            (format!("~1{i}"), if i == 19 { heavy(i) } else { json!({ "type": "string",
            "$ref": format!("#/$defs/~1{}", i + 1), "pattern": heavy(i)["pattern"] }) }))
            .chain((0..20).map(|i| (format!("/{i}"), json!({})))).collect()) }),
        ),
        (
            "patterns that meet in a property",
            TooLarge,
            json!({ "allOf": many(20, |i| json!({ "type": "object", "properties": {
            "ab": heavy(i) }, "required": ["ab"] })) }),
        ),
        (
            "patterns that meet by names",
            TooLarge,
            json!({ "allOf": many(20, |i| json!({ "type": "object", "required": ["ab"],
            "patternProperties": { "^a": heavy(i) } })) }),
        ),
        (
            "patterns that meet in what is additional",
            TooLarge,
            json!({ "allOf": many(20, |i| json!({ "type": "object", "required": ["ab"],
            "additionalProperties": heavy(i) })) }),
        ),
        (
            "patterns in every combination",
            TooLarge,
            json!({ "allOf": many(2, |i| json!({ "anyOf": many(100, |j| json!({ "type": "object",
            "properties": { format!("p{i}"): { "const": j }, "s": { "type": "string",
            "pattern": format!("^\\p{{L}}{{5}}{j}.*{i}") } }, "required": ["s"] })) })) }),
        ),
        (
            "patternProperties compared again and again",
            TooLarge,
            json!({ "allOf": many(300, |i| if i == 0 { json!({ "type": "object",
            "patternProperties": Value::Object((0..32).map(|i|
            (format!("^x{i}y.*(a|b{i}).{{{i}}}$"), json!({}))).collect()) }) } else {
            json!({ "type": "object", "maxProperties": i }) }) }),
        ),
        (
            "copies of copies",
            TooLarge,
            json!({ "allOf": [{ "anyOf": many(2_000, |_| json!({ "type": "object" })) },
            { "type": "object", "properties": { "a": { "enum": many(5_000, |i| json!(i)) } } }] }),
        ),
        (
            "oneOf in every combination",
            TooLarge,
            json!({ "allOf": many(2, |i| json!({ "oneOf": many(110, |j| json!({ "type": "object",
            "properties": { format!("p{i}"): { "const": format!("{j}") } },
            "required": [format!("p{i}")] })) })) }),
        ),
        (
            "one schema for many names",
            TooLarge,
            json!({ "type": "object", "additionalProperties": { "type": "string",
            "pattern": "^\\p{L}{3,9}$" }, "required": many(5_000, |i| json!(format!("{i}"))) }),
        ),
        (
            "patterns of their own",
            GoesOn,
            json!({ "type": "object", "properties": object_of(500, |i| json!({ "type": "string",
            "format": "date", "description": format!("the date {i}") })),
            "required": many(500, |i| json!(format!("key{i}"))) }),
        ),
        (
            "variants with patterns",
            Ends,
            json!({ "anyOf": many(20, |i| json!({ "type": "object", "properties": {
            "kind": { "const": format!("kind {i}") }, "id": { "type": "string",
            "pattern": format!("^{i}-[0-9a-f]{{8}}$") }, "at": { "$ref": "#/$defs/time" } },
            "required": ["kind", "id", "at"], "additionalProperties": false })),
            "$defs": { "time": { "type": "string", "format": "date-time" } } }),
        ),
        (
            "patterns in examples",
            Ends,
            json!({ "allOf": [{ "type": "integer", "format": "int64", "minimum": 0,
            "examples": many(20, heavy), "default": { "pattern": "x", "format": "y" } },
            { "type": "integer", "maximum": 20 }] }),
        ),
        ("$ref to itself", Refused, json!({ "$ref": "#" })),
        (
            "$ref loop",
            Refused,
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" },
            "b": { "$ref": "#/$defs/a" } } }),
        ),
        (
            "$ref loop with siblings",
            Refused,
            json!({ "$ref": "#/$defs/a", "$defs": {
            "a": { "allOf": [{ "$ref": "#/$defs/b" }, { "type": "object" }] },
            "b": { "allOf": [{ "$ref": "#/$defs/a" }, { "type": "object" }] } } }),
        ),
        ("$ref out", Refused, json!({ "$ref": "http://localhost/secret.json" })),
        ("$ref to a file", Refused, json!({ "$ref": "file:///etc/passwd" })),
        (
            "$ref doubling",
            Ends,
            json!({ "$ref": "#/$defs/d0", "$defs": Value::Object((0..25).map(|i|
            (format!("d{i}"), json!({ "allOf": [{ "$ref": format!("#/$defs/d{}", i + 1) },
            { "$ref": format!("#/$defs/d{}", i + 1) }] }))).chain([("d25".to_owned(),
            json!({ "type": "object" }))]).collect()) }),
        ),
        (
            "$ref chain",
            Ends,
            json!({ "$ref": "#/$defs/d0", "$defs": Value::Object((0..2_500).map(|i|
            (format!("d{i}"), json!({ "items": { "$ref": format!("#/$defs/d{}", i + 1) } })))
            .chain([("d2500".to_owned(), json!({}))]).collect()) }),
        ),
        (
            "$ref chain of allOf",
            Ends,
            json!({ "$ref": "#/$defs/d0", "$defs": Value::Object((0..2_000).map(|i|
            (format!("d{i}"), json!({ "allOf": [{ "$ref": format!("#/$defs/d{}", i + 1) }] })))
            .chain([("d2000".to_owned(), json!({}))]).collect()) }),
        ),
        (
            "minItems",
            GoesOn,
            json!({ "type": "array", "minItems": 1_000_000_000, "items": { "type": "null" } }),
        ),
        ("minItems overflow", GoesOn, json!({ "type": "array", "minItems": u64::MAX })),
        ("maxItems", Ends, json!({ "type": "array", "maxItems": 1_000_000_000 })),
        (
            "minItems in minItems",
            GoesOn,
            nested(6, |inner| {
                json!({ "type": "array", "minItems": 1000,
            "maxItems": 100_000, "items": inner })
            }),
        ),
        ("minLength", GoesOn, json!({ "type": "string", "minLength": 1_000_000_000 })),
        ("maxLength", Ends, json!({ "type": "string", "maxLength": 4_000_000_000_u64 })),
        (
            "length and pattern",
            Refused,
            json!({ "type": "string", "minLength": 10_000, "maxLength": 20_000,
            "pattern": "^(a|b)*c$" }),
        ),
        ("minProperties", GoesOn, json!({ "type": "object", "minProperties": 1_000_000_000 })),
        (
            "patternProperties",
            TooLarge,
            json!({ "type": "object", "patternProperties":
            Value::Object((0..200).map(|i| (format!("^x{i}.*"), json!({}))).collect()) }),
        ),
        (
            "heavy patternProperties",
            TooLarge,
            json!({ "type": "object", "patternProperties":
            Value::Object((0..30).map(|i| (format!("^.*(a|b{i}).{{{i}}}$"), json!({}))).collect()),
            "properties": object_of(2_000, |_| json!({})) }),
        ),
        ("heavy pattern", GoesOn, json!({ "type": "string", "pattern": "(.*a.{200}b){50}" })),
        (
            "many patterns",
            GoesOn,
            json!({ "anyOf": many(500, |i| json!({ "type": "string",
            "pattern": format!("^.*{i}.{{0,50}}x$") })) }),
        ),
        ("oneOf", TooLarge, json!({ "oneOf": many(3_000, |i| json!({ "const": i })) })),
        ("allOf of oneOf", TooLarge, all_of_one_of(2, 250)),
        ("allOf of small oneOf", TooLarge, all_of_one_of(8, 8)),
        ("allOf of anyOf", TooLarge, all_of_any_of(3, 60)),
        ("allOf of small anyOf", TooLarge, all_of_any_of(20, 3)),
        ("multipleOf", Depends, json!({ "type": "integer", "multipleOf": 4_294_967_291_u64 })),
        ("multipleOf fraction", Depends, json!({ "type": "number", "multipleOf": 1e-9 })),
        (
            "multipleOf twice",
            Depends,
            json!({ "allOf": [{ "type": "integer", "multipleOf": 65521 },
            { "type": "integer", "multipleOf": 65537 }] }),
        ),
        ("huge bounds", Ends, json!({ "type": "integer", "minimum": 1e300, "maximum": 1e301 })),
        (
            "huge float bounds",
            Refused,
            json!({ "type": "number", "minimum": -1e300, "maximum": 1.5e308 }),
        ),
        ("huge const", GivesUp, json!({ "const": 1e300 })),
        ("tiny const", GivesUp, json!({ "const": 1e-300 })),
        (
            "bounds of i64",
            Refused,
            json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }),
        ),
        ("control characters", Ends, json!({ "enum": ["\u{1}\u{7f}\u{0}", "你\u{2028}"] })),
        (
            "options from outside",
            Ends,
            json!({ "type": "object", "x-guidance": { "lenient": true,
            "whitespace_pattern": "(a*)*", "item_separator": "x", "unknown": 1 } }),
        ),
        ("wrong types", Refused, json!({ "type": 7, "properties": [], "minItems": "x" })),
        ("wrong type with other letters", Refused, json!({ "const": 1, "$ref": ["é".repeat(99)] })),
        ("impossible", Refused, json!({ "type": "integer", "minimum": 2, "maximum": 1 })),
        ("nothing", Refused, json!(false)),
        ("no schema", Refused, json!([1, 2])),
    ]
}

fn regexes() -> Vec<(Outcome, String)> {
    vec![
        (Ends, "(a|a)*{1000}".into()),
        (Ends, "((a|a)*){1000}".into()),
        (Ends, "(a*)*b".into()),
        (GoesOn, "(.*a.{500}b){100}".into()),
        (Ends, "(a{0,1000}){0,1000}".into()),
        (GoesOn, "((((a{100}){100}){100}){100}){100}".into()),
        (Ends, "(?:(?:.{0,200}x){0,200}y){0,200}".into()),
        (GoesOn, "a{1000000000}".into()),
        (GoesOn, "(.|\\p{L}|\\w){5000}".into()),
        (Refused, ".*".repeat(2000)),
        (TooLarge, "(a|b|ab)*c".repeat(500)),
        (TooLarge, "(".repeat(4000) + &")".repeat(4000)),
        (Refused, "(".repeat(200) + "a" + &")*".repeat(200)),
        (TooLarge, "a?".repeat(3000) + &"a".repeat(1000)),
        (TooLarge, "[a-z]|".repeat(2000) + "x"),
        (Ends, "(?i)straße|ſ|K".repeat(100)),
        (Refused, "[".into()),
        (Refused, "a\\".into()),
        (Refused, "(?=a)b".into()),
        (Refused, "\\bword\\b".into()),
        (Ends, "/\nstart: /x".into()),
        (Ends, "x/ | /y".into()),
        (TooLarge, "a".repeat(100_000)),
        (Refused, "[^\\x00-\\x{10FFFF}]".into()),
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

fn larks() -> Vec<(Outcome, String)> {
    vec![
        (Ends, "start: start start | \"a\" |".into()),
        (Refused, "start: a\na: b\nb: a".into()),
        (Ends, "start: (\"a\"? \"a\"?)* \"b\"".into()),
        (Ends, "start: a a a a a a\na: (a | b)*\nb: \"x\" | \"x\" \"x\" | \"xx\"".into()),
        (GoesOn, "start: \"a\"~1000000000".into()),
        (GoesOn, "start: x~1000\nx: y~1000\ny: z~1000\nz: \"a\" | \"b\"".into()),
        (Refused, "start: <[401]>".into()),
        (Ends, "start: <[*]>".into()),
        (Refused, "start: <[400]> \"more\"".into()),
        (Refused, "start: <|user|>".into()),
        (Refused, "start: <end>".into()),
        (GivesUp, "start: \"a\" <end> \"b\"".into()),
        (Ends, "start: /./ <[^5]>".into()),
        (
            Ends,
            "%llguidance { \"allow_invalid_utf8\": true }\nstart: /(?-u:[\\x80-\\xff]+)<end>/"
                .into(),
        ),
        (Refused, "start: @other".into()),
        (Refused, "start: A\nA: A".into()),
        (
            TooLarge,
            format!("start: %json {}", json!({ "oneOf": many(3_000, |i| json!({ "const": i })) })),
        ),
        (Refused, format!("start: {}\"a\"{}", "(".repeat(5_000), ")".repeat(5_000))),
        (Refused, format!("start: {}a{}", "[".repeat(5_000), "]".repeat(5_000))),
        (GivesUp, chain(3_000, "a", "\"x\" | ")),
        (Ends, chain(4_500, "a", "")),
        (Ends, chain(3_000, "A", "\"x\" | ")),
        (
            Ends,
            "start: \"a\" %regex { \"substring_chars\": \"".to_owned()
                + &"ab".repeat(10_000)
                + "\" }",
        ),
        (Refused, "\u{0}".into()),
        (Refused, "%import common.NOTHING\nstart: NOTHING".into()),
        (Refused, "start: TEXT\nTEXT[max_tokens=0]: /.*/".into()),
    ]
}

fn constraints() -> Vec<(String, Outcome, Constraint)> {
    let tools = |count: usize, schema: Value| {
        let tool = |i| ToolSpec { name: format!("tool{i}"), parameters: schema.clone() };
        Constraint::ToolCall { tools: (0..count).map(tool).collect(), parallel: true }
    };
    // Each alone is fine: whose fault it is takes as many compilations as there are tools.
    let together = (0..60).map(|i| {
        let letters = |j| format!("{}{i}x{j}", "\\p{L}".repeat(10));
        let text = |j| json!({ "type": "string", "minLength": 9, "pattern": letters(j) });
        ToolSpec {
            name: format!("tool{i}"),
            parameters: json!({ "properties": object_of(5, text) }),
        }
    });
    let together = Constraint::ToolCall { tools: together.collect(), parallel: false };
    let choices = |count: usize, make: fn(usize) -> String| {
        Constraint::Choice((1..count).map(make).collect())
    };
    let dates = |count| json!({ "properties": object_of(count, |_| json!({ "format": "date" })) });
    let mut all = vec![
        ("128 tools", Ends, tools(128, json!({ "properties": object_of(20, |_| json!({})) }))),
        ("tools of trees", Ends, tools(100, json!({ "properties": { "a": { "$ref": "#" } } }))),
        ("1000 tools", TooLarge, tools(1000, json!({}))),
        (
            "tools that are large together",
            TooLarge,
            tools(10, json!({ "enum": many(9_000, |i| json!(i)) })),
        ),
        (
            "tools that combine much",
            TooLarge,
            tools(
                100,
                json!({ "allOf": many(4, |_| json!({
            "anyOf": many(12, |_| json!({ "type": "object" })) })) }),
            ),
        ),
        ("tools with some dates", Ends, tools(50, dates(5))),
        ("tools with many dates", TooLarge, tools(100, dates(20))),
        ("tools that take too much together", Refused, together),
        ("choices", Ends, choices(5_000, |i| i.to_string())),
        ("alike choices", Ends, choices(300, |i| "a".repeat(i))),
    ];
    let schemas = schemas().into_iter();
    all.extend(
        schemas.map(|(name, outcome, schema)| (name, outcome, Constraint::JsonSchema(schema))),
    );
    let mut all: Vec<(String, Outcome, Constraint)> =
        all.into_iter().map(|(name, outcome, c)| (name.to_owned(), outcome, c)).collect();
    let shortened = |text: &str| text.chars().take(40).collect::<String>();
    let texts = regexes().into_iter();
    all.extend(texts.map(|(outcome, text)| (shortened(&text), outcome, Constraint::Regex(text))));
    let texts = larks().into_iter();
    all.extend(texts.map(|(outcome, text)| (shortened(&text), outcome, Constraint::Lark(text))));
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

/// Compiles and follows for up to 30 steps: the time for the one and the other, and what comes of it
/// where replies are then followed to their end.
fn run(fixture: &Fixture, constraint: &Constraint) -> (Outcome, String, Duration, Duration) {
    let started = time_used();
    let compiled = fixture.compile(constraint);
    let compiling = time_used() - started;
    let processor = match compiled {
        Err(error) => {
            assert!(error.field().is_some());
            let reason = error.to_string();
            assert!(reason.len() < 2_000 && !reason.contains("backtrace"), "{reason}");
            let is_size = matches!(error, StructuredError::TooLarge { .. });
            let outcome = if is_size { TooLarge } else { Refused };
            return (outcome, reason, compiling, Duration::ZERO);
        }
        Ok(processor) => processor,
    };
    let mut failures = String::new();
    let mut ends = |mut processor: Box<dyn LogitsProcessor>, plan| match fixture.follow(
        &mut *processor,
        plan,
        |_, _| {},
    ) {
        Ok(reply) => reply.ended,
        Err(error) => {
            failures = error.to_string();
            false
        }
    };
    let started = time_used();
    let ended = ends(processor, (3, Mood::Uniform, 30));
    let following = time_used() - started;
    let again = |seed| ends(fixture.compile(constraint).unwrap(), (seed, Mood::Hurried, 600));
    let ended = ended || (0..4).any(again);
    let outcome = match (ended, failures.is_empty()) {
        (true, _) => Ends,
        (false, true) => GoesOn,
        (false, false) => GivesUp,
    };
    (outcome, failures, compiling, following)
}

#[test]
fn hostile_constraints_are_refused_or_followed_soon() {
    let fixture = Fixture::new();
    let mut others = Vec::new();
    for (name, expected, constraint) in constraints() {
        let name = name.replace('\n', " ");
        let (outcome, reason, compiling, following) = run(&fixture, &constraint);
        let reason: String = reason.replace('\n', " ").chars().take(150).collect();
        println!("{name:40} {compiling:9.1?} {following:9.1?} {outcome:?} {reason}");
        assert!(compiling < PATIENCE, "{name}: compiled in {compiling:?}");
        assert!(following < PATIENCE, "{name}: followed for {following:?}");
        if expected != Depends && outcome != expected {
            others.push(format!("{name}: {outcome:?} instead of {expected:?}: {reason}"));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}
