//! Which replies are calls and which only look like one.

use std::time::{Duration, Instant};

use lightglm_generation::{ParsedReply, ToolCallEvent, ToolCallStream, parse_tool_calls};
use proptest::prelude::*;
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

/// Names, braces and line breaks, so that calls are found, broken and cut short.
fn reply_text() -> impl Strategy<Value = String> {
    let pieces = vec![
        "f",
        "get_weather",
        "get",
        "\n",
        " ",
        "{",
        "}",
        "{}",
        "\"",
        "\"a\":",
        "1",
        "[",
        "]",
        ",",
        "\\",
        "{\"a\": {\"b\": \"}\"}}",
        "text",
        "你",
        "null",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..40).prop_map(|p| p.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_streamed_reply_is_the_parsed_reply(text in reply_text(), step in 1usize..7) {
        let names = ["f", "get_weather", "get", "null"];
        let whole = parse_tool_calls(&text, &names);
        let mut stream = ToolCallStream::new(&names);
        let characters: Vec<char> = text.chars().collect();
        let mut events = Vec::new();
        for piece in characters.chunks(step) {
            events.extend(stream.push(&piece.iter().collect::<String>()));
        }
        events.extend(stream.finish());
        let mut reply = ParsedReply::default();
        let mut open = 0;
        for event in events {
            match event {
                ToolCallEvent::Content(text) => reply.content += &text,
                ToolCallEvent::CallStarted { .. } => open += 1,
                ToolCallEvent::CallFinished(call) => { open -= 1; reply.calls.push(call); }
                _ => open -= 1,
            }
            prop_assert!((0..=1).contains(&open));
        }
        prop_assert_eq!(open, 0);
        if whole.calls.is_empty() {
            prop_assert_eq!(&whole.content, &text);
        }
        prop_assert_eq!(reply, whole);
    }

    #[test]
    fn the_parser_takes_anything(text: String, bytes: Vec<u8>) {
        parse_tool_calls(&text, &[text.as_str(), "f"]);
        parse_tool_calls(&String::from_utf8_lossy(&bytes), &["f"]);
    }
}
