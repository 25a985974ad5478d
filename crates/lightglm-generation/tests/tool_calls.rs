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

/// The calls of a stream: name, arguments, whether they are complete; and the rest.
fn told(
    stream: &mut ToolCallStream,
    pieces: &[&str],
    cut: bool,
) -> (Vec<(String, String, bool)>, String) {
    let mut events: Vec<ToolCallEvent> =
        pieces.iter().flat_map(|piece| stream.push(piece)).collect();
    events.extend(if cut { stream.finish_cut() } else { stream.finish() });
    let (mut calls, mut content, mut streamed) = (Vec::new(), String::new(), None);
    for event in events {
        match event {
            ToolCallEvent::Content(text) => content += &text,
            ToolCallEvent::CallStarted { .. } => streamed = Some(String::new()),
            ToolCallEvent::CallArguments(more) => *streamed.as_mut().unwrap() += &more,
            ToolCallEvent::CallFinished(call) => {
                let streamed = streamed.take().unwrap();
                assert!(streamed.is_empty() || streamed == call.raw_arguments);
                calls.push((call.name, call.raw_arguments, true));
            }
            ToolCallEvent::CallCut { name, raw_arguments } => {
                let streamed = streamed.take().unwrap();
                assert!(streamed.is_empty() || streamed == raw_arguments);
                calls.push((name, raw_arguments, false));
            }
            _ => streamed = None,
        }
    }
    (calls, content)
}

fn call(name: &str, arguments: &str, complete: bool) -> (String, String, bool) {
    (name.to_owned(), arguments.to_owned(), complete)
}

#[test]
fn a_call_that_is_cut_comes_as_far_as_it_came() {
    let cut = |text: &str| told(&mut ToolCallStream::new(&NAMES), &[text], true);
    let partial = "{\"city\": \"Par";
    let text = format!("Let me look.\nget_weather\n{partial}");
    assert_eq!(cut(&text), (vec![call("get_weather", partial, false)], "Let me look.".into()));
    assert_eq!(cut("get_weather\n"), (vec![call("get_weather", "", false)], String::new()));
    let second = "noop\n{}\nget\n{\"a\": [";
    let calls = vec![call("noop", "{}", true), call("get", "{\"a\": [", false)];
    assert_eq!(cut(second), (calls, String::new()));
    // A word is no call yet, nor is what only looks like one, nor a complete call cut.
    for text in ["get_weather", "get_we", "get_weather ", "Use get_weather\n{\"a\"", "get\n{a"] {
        assert_eq!(cut(text), (Vec::new(), text.to_owned()), "{text:?}");
    }
    assert_eq!(cut("noop\n{}\n"), (vec![call("noop", "{}", true)], String::new()));
    // A reply that was not cut has said what it wanted to say.
    let whole = told(&mut ToolCallStream::new(&NAMES), &[&text], false);
    assert_eq!(whole, (Vec::new(), text));
}

#[test]
fn arguments_of_a_call_that_must_be_are_told_at_once() {
    let mut stream = ToolCallStream::new(&NAMES).must_call();
    assert_eq!(stream.push("\nget_wea"), []);
    assert_eq!(stream.push("ther\n"), []);
    let started = ToolCallEvent::CallStarted { name: "get_weather".into() };
    let more = |text: &str| ToolCallEvent::CallArguments(text.into());
    assert_eq!(stream.push("{\"ci"), [started, more("{\"ci")]);
    assert_eq!(stream.push("ty\": \"巴"), [more("ty\": \"巴")]);
    let events = stream.push("黎\"}\nnoop\n{}");
    assert_eq!(events[0], more("黎\"}"));
    let ToolCallEvent::CallFinished(first) = &events[1] else { panic!("{events:?}") };
    assert_eq!(first.raw_arguments, "{\"city\": \"巴黎\"}");
    assert_eq!(events[3], more("{}"));
    assert_eq!(events.len(), 5);
    assert_eq!(stream.finish(), []);

    let must =
        |pieces: &[&str], cut| told(&mut ToolCallStream::new(&NAMES).must_call(), pieces, cut);
    for (pieces, calls) in [
        (&["get_weather", "\n{\"city\""][..], vec![call("get_weather", "{\"city\"", false)]),
        (&["get_weather"], vec![call("get_weather", "", false)]),
        // The only name that begins so.
        (&["no"], vec![call("noop", "", false)]),
        // Numbers that no computer has, and nesting without an end: what was told stays told.
        (&["get\n{\"n\": 1", "e999}"], vec![call("get", "{\"n\": 1e999}", false)]),
    ] {
        assert_eq!(must(pieces, true), (calls, String::new()), "{pieces:?}");
    }
    // It might be either.
    assert_eq!(must(&["ge"], true), (Vec::new(), "ge".into()));
    let deep = format!("get\n{}", "{\"a\":".repeat(200));
    let (calls, rest) = must(&[&deep], true);
    assert_eq!((calls.len(), calls[0].2), (1, false));
    assert!(!rest.is_empty());
}
