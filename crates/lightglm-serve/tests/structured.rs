//! Structured output: whatever is sampled under a constraint follows it.

#[path = "structured/large_vocabulary.rs"]
mod large_vocabulary;
#[path = "structured/schemas.rs"]
mod schemas;
#[path = "structured/toy.rs"]
mod toy;
#[path = "structured/validator.rs"]
mod validator;

use lightglm_generation::{TokenHistory, parse_tool_calls};
use lightglm_serve::structured::{
    Constraint, GrammarVocabulary, StructuredError, StructuredLimits, ToolSpec, compile,
};
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use crate::toy::{EOS, Fixture, Mood, VOCAB_SIZE, toy};
use crate::validator::accepts;

fn schemas() -> Vec<Value> {
    vec![
        json!({ "type": "object", "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 20 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "tags": { "type": "array", "items": { "enum": ["red", "green", "蓝色"] }, "maxItems": 4 },
            "score": { "type": "number" },
            "ok": { "type": "boolean" } },
            "required": ["name", "age"], "additionalProperties": false }),
        json!({ "type": "object", "properties": { "id": { "type": "string",
            "pattern": "^[A-Z]{2}[0-9]{3,5}$" }, "nick": { "type": ["string", "null"] } },
            "required": ["id", "nick"] }),
        json!({ "anyOf": [{ "type": "integer", "multipleOf": 7 }, { "const": "无" }, { "type": "null" },
            { "type": "array", "items": { "type": "number", "minimum": -1.5, "maximum": 2 },
            "minItems": 2, "maxItems": 3 }] }),
        json!({ "oneOf": [
            { "type": "object", "properties": { "kind": { "const": "a" }, "x": { "type": "integer" } },
              "required": ["kind", "x"], "additionalProperties": false },
            { "type": "object", "properties": { "kind": { "const": "b" }, "y": { "type": "string" } },
              "required": ["kind"], "additionalProperties": false }] }),
        json!({ "$ref": "#/$defs/tree", "$defs": { "tree": { "type": "object", "properties": {
            "value": { "type": "integer" },
            "children": { "type": "array", "items": { "$ref": "#/$defs/tree" }, "maxItems": 2 } },
            "required": ["value"], "additionalProperties": false } } }),
        json!({ "type": "object", "properties": { "name": { "type": "boolean" } },
            "required": ["name"], "additionalProperties": { "type": "integer" } }),
        json!({ "enum": [1, 2.5, "two", null, true, ["a", 1], { "k": "v" }] }),
        json!({ "type": "number" }),
        json!({ "type": "string" }),
        json!(true),
    ]
}

#[test]
fn replies_follow_their_schema() {
    let fixture = Fixture::new();
    for schema in schemas() {
        for reply in fixture.replies(&Constraint::JsonSchema(schema.clone()), 120) {
            let value: Value = serde_json::from_str(reply.text())
                .unwrap_or_else(|error| panic!("{error} in {:?} of {schema}", reply.text()));
            assert!(accepts(&schema, &schema, &value), "{schema} does not accept {value}");
        }
    }
}

#[test]
fn any_object_is_an_object() {
    let fixture = Fixture::new();
    for reply in fixture.replies(&Constraint::JsonObject, 400) {
        let value: Value = serde_json::from_str(reply.text()).unwrap();
        assert!(value.is_object(), "{value}");
    }
}

#[test]
fn chinese_can_be_written_inside_strings() {
    let fixture = Fixture::new();
    let text = r#"{"城市":"你好，世界","温度":-12.5}"#;
    let schema = json!({ "type": "object", "properties": { "城市": { "type": "string" },
        "温度": { "type": "number" } }, "required": ["城市"], "additionalProperties": false });
    for constraint in [Constraint::JsonSchema(schema), Constraint::JsonObject] {
        let mut processor = fixture.compile(&constraint).unwrap();
        // Byte by byte: every prefix of a character is let through, every end of one, too.
        let generated: Vec<u32> = text.bytes().map(u32::from).collect();
        for end in 0..=generated.len() {
            let mut logits = vec![0.0; VOCAB_SIZE];
            let history = TokenHistory { prompt: &[], generated: &generated[..end] };
            processor.process(history, &mut logits).unwrap();
            let next = generated.get(end).copied().unwrap_or(EOS[1]);
            assert_eq!(logits[next as usize], 0.0, "{:?}", text.get(..end));
        }
    }
}

#[test]
fn replies_match_their_expression_and_end_where_it_does() {
    let fixture = Fixture::new();
    for expression in [
        r"[a-c]{1,4}(\.[0-9]+)?",
        r"^(yes|no|也许)$",
        r"(ab|a)(bc|c)?",
        r"\d{3}-\d{4}|none",
        r"/usr/[a-z/]*\\\$",
        "a\nb?",
        r#"["'`]*x"#,
        r"^a|b$",
    ] {
        let whole = Regex::new(&format!("^(?:{expression})$")).unwrap();
        for seed in 0..100 {
            let mut processor = fixture.compile(&Constraint::Regex(expression.into())).unwrap();
            let plan = (seed, Mood::Uniform, 60);
            let reply = fixture.follow(&mut *processor, plan, |text, logits| {
                let matches = std::str::from_utf8(text).is_ok_and(|text| whole.is_match(text));
                for eos in EOS {
                    assert_eq!(logits[eos as usize].is_finite(), matches, "{expression}: {text:?}");
                }
            });
            let reply = reply.unwrap();
            assert!(!reply.ended || whole.is_match(reply.text()), "{expression}: {}", reply.text());
        }
    }
}

#[test]
fn grammars_are_followed() {
    let fixture = Fixture::new();
    let sum = Constraint::Lark("start: NUMBER (\" + \" NUMBER)*\nNUMBER: /[1-9][0-9]{0,2}/".into());
    let whole = Regex::new(r"^[1-9][0-9]{0,2}( \+ [1-9][0-9]{0,2})*$").unwrap();
    for reply in fixture.replies(&sum, 100) {
        assert!(whole.is_match(reply.text()), "{}", reply.text());
    }
    // A terminal that ends where the reply ends.
    let open = Constraint::Lark("start: \"so: \" rest\nrest[stop=\"\"]: /[a-z]+/".into());
    let whole = Regex::new("^so: [a-z]+$").unwrap();
    for reply in fixture.replies(&open, 100) {
        assert!(whole.is_match(reply.text()), "{}", reply.text());
    }
    let closed = Constraint::Lark("start: rest \"!\"\nrest[stop=\"\"]: /[a-z]{1,3}/".into());
    let whole = Regex::new("^[a-z]{1,3}!$").unwrap();
    for reply in fixture.replies(&closed, 100) {
        assert!(whole.is_match(reply.text()), "{}", reply.text());
    }
    for with_schema in ["start: \"x=\" %json { \"type\": \"boolean\" }"] {
        for reply in fixture.replies(&Constraint::Lark(with_schema.into()), 20) {
            assert!(["x=true", "x=false"].contains(&reply.text().trim_end()), "{:?}", reply.text());
        }
    }
}

#[test]
fn choices_are_taken_whole() {
    let fixture = Fixture::new();
    let choices = ["a", "ab", "abc/", "\"q\"\n", "好", "好吧", ".*"].map(str::to_owned).to_vec();
    let replies = fixture.replies(&Constraint::Choice(choices.clone()), 300);
    for choice in &choices {
        assert!(replies.iter().any(|reply| reply.text() == choice), "{choice:?} was never taken");
    }
    assert!(replies.iter().all(|reply| choices.iter().any(|choice| choice == reply.text())));
}

fn tools() -> Vec<ToolSpec> {
    let tool = |name: &str, parameters| ToolSpec { name: name.to_owned(), parameters };
    vec![
        tool(
            "get_weather",
            json!({ "type": "object", "properties": {
            "city": { "type": "string" }, "days": { "type": "integer" } }, "required": ["city"] }),
        ),
        tool("get", json!({})),
        tool(
            "查询/a.b-c",
            json!({ "properties": { "q": { "type": ["string", "number"] } },
            "additionalProperties": false }),
        ),
        tool(
            "f1e999",
            json!({ "type": ["object", "null"], "properties": {
            "tree": { "$ref": "#" }, "x": { "type": "number" } }, "additionalProperties": false }),
        ),
    ]
}

/// What a grammar of calls let through is those calls and nothing else.
fn check_calls(text: &str, tools: &[ToolSpec], parallel: bool) -> usize {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    let parsed = parse_tool_calls(text, &names);
    assert_eq!(parsed.content, "", "{text:?}");
    assert!(!parsed.calls.is_empty() && (parallel || parsed.calls.len() == 1), "{text:?}");
    let mut written = Vec::new();
    for call in &parsed.calls {
        let tool = tools.iter().find(|tool| tool.name == call.name).unwrap();
        let schema = &tool.parameters;
        assert!(call.arguments.is_object() && accepts(schema, schema, &call.arguments), "{call:?}");
        written.push(format!("{}\n{}", call.name, call.raw_arguments));
    }
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(bare(&written.join("\n")), bare(text));
    parsed.calls.len()
}

#[test]
fn calls_are_parsed_back() {
    let fixture = Fixture::new();
    let mut most = 0;
    for parallel in [false, true] {
        let constraint = Constraint::ToolCall { tools: tools(), parallel };
        for reply in fixture.replies(&constraint, 400) {
            most = most.max(check_calls(reply.text(), &tools(), parallel));
        }
        for tool in tools() {
            let named = Constraint::ToolCall { tools: vec![tool.clone()], parallel };
            for reply in fixture.replies(&named, 60) {
                // The parser knows every declared tool, the grammar the named one alone.
                check_calls(reply.text(), &tools(), parallel);
                assert!(reply.text().starts_with(&format!("{}\n", tool.name)));
            }
        }
    }
    assert!(most > 1, "never more than one call");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn calls_of_any_name_are_parsed_back(
        names in prop::collection::btree_set("[^\\s\\pC{}\\[\\]\":,]{1,12}", 1..4),
        seed in any::<u64>(),
        parallel in any::<bool>(),
    ) {
        let fixture = Fixture::new();
        let parameters = json!({ "type": "object", "properties": { "a": { "type": "number" } } });
        let tool = |name: String| ToolSpec { name, parameters: parameters.clone() };
        let tools: Vec<ToolSpec> = names.into_iter().map(tool).collect();
        let constraint = Constraint::ToolCall { tools: tools.clone(), parallel };
        let mut processor = fixture.compile(&constraint).unwrap();
        let reply = fixture.follow(&mut *processor, (seed, Mood::Hurried, 3000), |_, _| {}).unwrap();
        if reply.ended {
            check_calls(reply.text(), &tools, parallel);
        }
    }
}

#[test]
fn nesting_ends_at_the_limit() {
    let mut fixture = Fixture::new();
    fixture.limits.output_depth = 5;
    let constraint = Constraint::JsonSchema(json!({ "type": "array", "items": { "$ref": "#" } }));
    for reply in fixture.replies(&constraint, 100) {
        let deepest = reply.text().bytes().scan(0, |depth, byte| {
            *depth += i32::from(byte == b'[') - i32::from(byte == b']');
            Some(*depth)
        });
        assert!(deepest.max().unwrap() <= 5, "{}", reply.text());
    }
}

#[test]
fn only_the_end_follows_the_end() {
    let fixture = Fixture::new();
    let mut processor = fixture.compile(&Constraint::Choice(vec!["a".into()])).unwrap();
    for generated in [&[][..], &[97], &[97, EOS[1]], &[97, EOS[1], EOS[0]]] {
        // Asked twice, it says the same.
        for _ in 0..2 {
            let mut logits = vec![1.0; VOCAB_SIZE];
            processor.process(TokenHistory { prompt: &[3], generated }, &mut logits).unwrap();
            let allowed = |id: &u32| logits[*id as usize] == 1.0;
            let allowed: Vec<u32> = (0..VOCAB_SIZE as u32).filter(allowed).collect();
            assert_eq!(allowed, if generated.is_empty() { vec![97] } else { EOS.to_vec() });
        }
    }
    // Several tokens at once, as after a draft that was right.
    let mut processor = fixture.compile(&Constraint::Regex("a{9}".into())).unwrap();
    for generated in [&[97][..], &[97, 97, 97, 97], &[97; 9]] {
        let mut logits = vec![1.0; VOCAB_SIZE];
        processor.process(TokenHistory { prompt: &[], generated }, &mut logits).unwrap();
        assert_eq!(logits[97] == 1.0, generated.len() < 9);
    }
}

#[test]
fn replies_of_one_compilation_do_not_meet() {
    let fixture = Fixture::new();
    let constraint = Constraint::JsonSchema(schemas().swap_remove(0));
    let compiled = compile(&constraint, &fixture.vocabulary, &fixture.limits).unwrap();
    let alone = |seed| {
        let mut processor = fixture.compile(&constraint).unwrap();
        fixture.follow(&mut *processor, (seed, Mood::Hurried, 300), |_, _| {}).unwrap().tokens
    };
    // One after another, and side by side.
    let mut processors: Vec<_> = (0..4).map(|_| compiled.processor()).collect();
    for (seed, processor) in (0..).zip(&mut processors) {
        let reply = fixture.follow(&mut **processor, (seed, Mood::Hurried, 300), |_, _| {});
        assert_eq!(reply.unwrap().tokens, alone(seed));
    }
    std::thread::scope(|scope| {
        for seed in 4..8 {
            let (mut processor, fixture) = (compiled.processor(), &fixture);
            let expected = alone(seed);
            scope.spawn(move || {
                let plan = (seed, Mood::Hurried, 300);
                let reply = fixture.follow(&mut *processor, plan, |_, _| {});
                assert_eq!(reply.unwrap().tokens, expected);
            });
        }
    });
}

#[test]
fn what_breaks_the_rules_is_an_error_for_good() {
    let fixture = Fixture::new();
    let histories: [&[&[u32]]; 5] =
        [&[&[98]], &[&[97], &[]], &[&[EOS[0]]], &[&[401]], &[&[97, EOS[0]], &[97, EOS[0], 97]]];
    for history in histories {
        let mut processor = fixture.compile(&Constraint::Choice(vec!["a".into()])).unwrap();
        let mut outcomes = Vec::new();
        for generated in history.iter().chain([&&[97][..]]) {
            let mut logits = vec![1.0; VOCAB_SIZE];
            let outcome = processor.process(TokenHistory { prompt: &[], generated }, &mut logits);
            assert!(outcome.is_ok() || logits.iter().all(|logit| *logit == f32::NEG_INFINITY));
            outcomes.push(outcome);
        }
        let [.., last, after] = &outcomes[..] else { panic!("two at least") };
        assert!(last.is_err() && last == after, "{history:?}: {outcomes:?}");
    }
    // A grammar of any two tokens cannot be talked into a control token.
    let mut processor = fixture.compile(&Constraint::Lark("start: <[*]> <[*]>".into())).unwrap();
    let history = TokenHistory { prompt: &[], generated: &[401] };
    assert!(processor.process(history, &mut [0.0; VOCAB_SIZE]).is_err());
    let mut processor = fixture.compile(&Constraint::JsonObject).unwrap();
    let history = TokenHistory { prompt: &[], generated: &[] };
    assert!(processor.process(history, &mut [0.0; 10]).is_err());
}

#[test]
fn a_step_without_fuel_is_an_error() {
    let fixture = Fixture::new();
    let pattern = Constraint::Regex("a?".repeat(1000) + &"a".repeat(500));
    let mut processor = fixture.compile(&pattern).unwrap();
    let reply = fixture.follow(&mut *processor, (3, Mood::Uniform, 500), |_, _| {});
    let error = reply.err().expect("no step took too much");
    assert_eq!(error.processor, "grammar");
    assert!(!error.reason.is_empty());
}

#[test]
fn errors_name_their_field() {
    let fixture = Fixture::new();
    let tool = |name: &str, parameters| ToolSpec { name: name.to_owned(), parameters };
    let calls = |tools| Constraint::ToolCall { tools, parallel: false };
    let good = || tool("good", json!({}));
    let cases = [
        (Constraint::JsonSchema(json!({ "type": "teapot" })), "schema", "teapot"),
        (
            Constraint::JsonSchema(json!({ "type": "array", "uniqueItems": true })),
            "schema",
            "unique",
        ),
        (Constraint::JsonSchema(json!({ "type": "string", "pattern": "(" })), "schema", "("),
        (Constraint::JsonSchema(json!({ "$ref": "#/$defs/a~1b" })), "schema", "leads nowhere"),
        (Constraint::Regex("(".into()), "regex", "unclosed group"),
        (Constraint::Regex("^$".into()), "regex", "empty"),
        (Constraint::Lark("begin: \"a\"".into()), "lark", "no start rule"),
        (Constraint::Lark(" ".into()), "lark", "empty"),
        (Constraint::Choice(vec![]), "choice", "empty"),
        (Constraint::Choice(vec!["a".into(), String::new()]), "choice[1]", "empty"),
        (calls(vec![]), "tools", "empty"),
        (calls(vec![good(), tool("a b", json!({}))]), "tools[1].name", "white space"),
        (calls(vec![tool("a:b", json!({}))]), "tools[0].name", "a:b"),
        (calls(vec![good(), good()]), "tools[1].name", "same name"),
        (
            calls(vec![good(), tool("x", json!({ "type": "string" }))]),
            "tools[1].parameters",
            "object",
        ),
        (calls(vec![good(), tool("x", json!(7))]), "tools[1].parameters", "object"),
        (
            calls(vec![good(), tool("x", json!({ "anyOf": [{ "type": "string" }] }))]),
            "tools[1].parameters",
            "incompatible",
        ),
        (
            calls(vec![
                good(),
                tool("bad", json!({ "properties": { "a": { "type": "teapot" } } })),
            ]),
            "tools[1].parameters",
            "teapot",
        ),
    ];
    for (constraint, field, part) in cases {
        let Err(error) = fixture.compile(&constraint) else { panic!("{constraint:?} was taken") };
        assert_eq!(error.field(), Some(field), "{error}");
        assert!(
            error.to_string().starts_with(field) && error.to_string().contains(part),
            "{error}"
        );
    }
}

#[test]
fn a_vocabulary_needs_an_end() {
    let toy = toy();
    let error = GrammarVocabulary::new(&toy, 300).unwrap_err();
    assert!(matches!(error, StructuredError::Vocabulary { .. }) && error.field().is_none());
    assert!(GrammarVocabulary::new(&toy, 1 << 25).is_err());
    let vocabulary = GrammarVocabulary::new(&toy, VOCAB_SIZE).unwrap();
    assert_eq!(vocabulary.vocab_size(), VOCAB_SIZE);
    let constraint = Constraint::JsonObject;
    assert!(compile(&constraint, &vocabulary, &StructuredLimits::default()).is_ok());
}
