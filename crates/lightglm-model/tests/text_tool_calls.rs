//! Which replies are calls and which only look like one.

use std::time::{Duration, Instant};

use lightglm_model::text::{ParsedReply, parse_tool_calls};
use serde_json::json;

const NAMES: [&str; 3] = ["get_weather", "get", "noop"];

fn calls(reply: &ParsedReply) -> Vec<(&str, &serde_json::Value)> {
    reply.calls.iter().map(|call| (call.name.as_str(), &call.arguments)).collect()
}

#[test]
fn calls_are_found() {
    for text in [
        "get_weather\n{\"city\": \"Paris\"}",
        "get_weather \n{\"city\": \"Paris\"}",
        "\n  get_weather\t\r\n\n  {\"city\": \"Paris\"}\n",
    ] {
        let reply = parse_tool_calls(text, &NAMES);
        assert_eq!(calls(&reply), [("get_weather", &json!({"city": "Paris"}))], "{text:?}");
        assert_eq!(reply.content, "", "{text:?}");
    }
}

#[test]
fn several_calls_and_text_around_them() {
    let text = "Let me look.\nget_weather\n{\"a\": {\"b\": \"}\\\"{\"}}\nnoop \n{} get\n{\"x\":1}\nDone: noop\n";
    let reply = parse_tool_calls(text, &NAMES);
    assert_eq!(reply.content, "Let me look.\nDone: noop\n");
    let expected = [
        ("get_weather", &json!({"a": {"b": "}\"{"}})),
        ("noop", &json!({})),
        ("get", &json!({"x": 1})),
    ];
    assert_eq!(calls(&reply), expected);
    assert_eq!(reply.calls[0].raw_arguments, "{\"a\": {\"b\": \"}\\\"{\"}}");
}

#[test]
fn what_is_no_call_is_content() {
    for text in [
        "",
        "\n",
        "You could use get_weather\n{\"city\": 1}",
        "get_weather is a tool",
        "get_weather {\"city\": 1}",
        "get_weather\n",
        "get_weather\n{\"city\": \"Par",
        "get_weather\n{city: 1}",
        "get_weather\n{\"city\": nul}",
        "get_weather\n{\"n\": 1e999}",
        "other\n{\"city\": 1}",
        "get_weathers\n{\"city\": 1}",
        "get_weather\n[1]",
    ] {
        let reply = parse_tool_calls(text, &NAMES);
        assert_eq!(reply, ParsedReply { content: text.to_owned(), calls: vec![] }, "{text:?}");
    }
}

#[test]
fn a_call_behind_a_broken_one_is_found() {
    let reply = parse_tool_calls("get\n{\"a\":\nnoop\n{\"b\": 1}", &NAMES);
    assert_eq!(reply.content, "get\n{\"a\":");
    assert_eq!(calls(&reply), [("noop", &json!({"b": 1}))]);
}

#[test]
fn time_is_linear() {
    // A quadratic parser needs minutes for these.
    for unit in ["get\n{", "get\n{\"", "get\n\n\n", "get\n{\"a\":", "get\n{\"a\":1,\n", "g", " "] {
        let text = unit.repeat(1 << 18);
        let start = Instant::now();
        let reply = parse_tool_calls(&text, &NAMES);
        assert!(reply.calls.is_empty());
        assert!(start.elapsed() < Duration::from_secs(10), "{unit:?}");
    }
}
