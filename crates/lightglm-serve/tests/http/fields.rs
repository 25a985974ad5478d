//! Every number is capped, and the error names the field.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use crate::client::{CHAT, COMPLETIONS, chat, config, post, post_text, router, send, server};
use crate::scripted::Scripted;
use crate::toy_text::shown;

#[tokio::test]
async fn wrong_values_are_named() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let many = |count: usize| Value::Array(vec![json!("s"); count]);
    let cases: Vec<(&str, Vec<Value>)> = vec![
        (
            "n",
            vec![json!(0), json!(-1), json!(9), json!(1e30), json!("2"), json!(1.5), json!(-1.0)],
        ),
        ("temperature", vec![json!(-0.1), json!(2.1), json!("NaN"), json!(1e300), json!([])]),
        ("top_p", vec![json!(-0.1), json!(-1), json!(1.01), json!("Infinity")]),
        ("top_k", vec![json!(-2), json!(1e20), json!(4294967296u64), json!("all")]),
        ("min_p", vec![json!(-0.1), json!(1.1)]),
        ("max_tokens", vec![json!(0), json!(-5), json!("8"), json!(1e300), json!(2.5)]),
        ("max_completion_tokens", vec![json!(0), json!(-2)]),
        ("min_tokens", vec![json!(-1), json!(1.5)]),
        ("frequency_penalty", vec![json!(-2.1), json!(2.1), json!("x")]),
        ("presence_penalty", vec![json!(-2.1), json!(2.1)]),
        ("repetition_penalty", vec![json!(0), json!(-1), json!(101)]),
        ("dry_multiplier", vec![json!(-0.1), json!(101)]),
        ("dry_base", vec![json!(0.9), json!(11)]),
        ("dry_allowed_length", vec![json!(0), json!(-1), json!(1.5)]),
        ("loop_tokens", vec![json!(-1), json!(0.5)]),
        ("seed", vec![json!(1.5), json!(1e20), json!("s")]),
        ("stop", vec![json!(["a", ""]), many(17), json!("s".repeat(257)), json!(3)]),
        ("logit_bias", vec![json!([]), json!({"x": 1}), json!({"260": 1}), json!({"+5": 1})]),
        ("logit_bias.5", vec![json!({"5": 101}), json!({"5": -101}), json!({"5": "a"})]),
        ("priority", vec![json!(11), json!(-11), json!(1e10)]),
        ("user", vec![json!("u".repeat(257)), json!(5)]),
        ("stream", vec![json!("yes")]),
        ("stream_options", vec![json!({"include_usage": true}), json!(1)]),
        ("model", vec![json!(1)]),
    ];
    for (field, values) in cases {
        let key = field.split('.').next().unwrap();
        for value in values {
            let bodies = [
                (CHAT, chat(json!({key: value}))),
                (COMPLETIONS, { json!({"prompt": "x", key: value}) }),
            ];
            for (path, body) in bodies {
                let (status, param, code) = post(&router, path, body).await.error();
                assert_eq!((status, param.as_str()), (400, field), "{path} {value}");
                assert_eq!(code, "invalid_value");
            }
        }
    }
    assert!(engine.seen().is_empty());
}

#[tokio::test]
async fn wrong_values_of_chats_are_named() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let message = |message: Value| json!([{"role": "user", "content": "a"}, message]);
    let large = json!({"type": "object", "description": "d".repeat(70_000)});
    let cases: Vec<(&str, Value)> = vec![
        ("top_logprobs", json!({"logprobs": true, "top_logprobs": 21})),
        ("top_logprobs", json!({"logprobs": true, "top_logprobs": -1})),
        ("top_logprobs", json!({"top_logprobs": 1})),
        ("logprobs", json!({"logprobs": 5})),
        ("messages", json!({"messages": []})),
        ("messages", json!({"messages": "hi"})),
        ("messages", json!({"messages": vec![json!({"role": "user", "content": "a"}); 1025]})),
        ("messages", json!({"messages": message(json!({"role": "user", "content": "refuse"}))})),
        (
            "messages[0].content",
            json!({"messages": message(json!({"role": "user", "content": "leave out"}))}),
        ),
        ("messages[1].role", json!({"messages": message(json!({"role": "king", "content": "a"}))})),
        ("messages[1].role", json!({"messages": message(json!({"content": "a"}))})),
        ("messages[1].content", json!({"messages": message(json!({"role": "user"}))})),
        (
            "messages[1].content",
            json!({"messages": message(json!({"role": "user", "content": 1}))}),
        ),
        (
            "messages[1].content[0].image_url",
            json!({"messages": message(json!({"role": "user", "content": [{"type": "image_url"}]}))}),
        ),
        (
            "messages[1].content[0]",
            json!({"messages": message(json!({"role": "user", "content": [{"type": "video"}]}))}),
        ),
        (
            "messages[1].tool_calls",
            json!({"messages": message(json!({"role": "user", "content": "a", "tool_calls": [
                {"function": {"name": "f", "arguments": "{}"}}]}))}),
        ),
        (
            "messages[1].tool_calls[1].function.name",
            json!({"messages": message(json!({"role": "assistant", "tool_calls": [
                {"function": {"name": "f".repeat(64), "arguments": "{}"}},
                {"function": {"name": "f".repeat(65), "arguments": "{}"}}]}))}),
        ),
        (
            "messages[1].tool_calls[0].function.name",
            json!({"messages": message(json!({"role": "assistant", "tool_calls": [
                {"function": {"name": "", "arguments": "{}"}}]}))}),
        ),
        ("tools[0].function.name", json!({"tools": [tool(&"f".repeat(65))]})),
        ("tools[0].function.name", json!({"tools": [tool("a b")]})),
        ("tools[0].function.name", json!({"tools": [tool("")]})),
        ("tools[1].function.name", json!({"tools": [tool("f"), tool("f")]})),
        ("tools[0].type", json!({"tools": [{"type": "web", "function": {"name": "f"}}]})),
        ("tools[0].function", json!({"tools": [{"type": "function"}]})),
        (
            "tools[0].function",
            json!({"tools": [{"type": "function",
                              "function": {"name": "f", "parameters": large.clone()}}]}),
        ),
        ("tools", json!({"tools": vec![tool("f"); 129]})),
        ("tool_choice", json!({"tool_choice": "required"})),
        ("tool_choice", json!({"tool_choice": "maybe"})),
        (
            "tool_choice.function.name",
            json!({"tools": [tool("f")],
                   "tool_choice": {"type": "function", "function": {"name": "g"}}}),
        ),
        ("response_format.type", json!({"response_format": {"type": "xml"}})),
        ("response_format.json_schema", json!({"response_format": {"type": "json_schema"}})),
        (
            "response_format.json_schema.schema",
            json!({"response_format": {"type": "json_schema",
                   "json_schema": {"name": "s", "schema": large}}}),
        ),
        ("guided_regex", json!({"guided_regex": "a".repeat(70_000)})),
        ("guided_grammar", json!({"guided_regex": "a", "guided_grammar": "b"})),
    ];
    for (field, fields) in cases {
        let shown: String = fields.to_string().chars().take(200).collect();
        let (status, param, _) = post(&router, CHAT, chat(fields)).await.error();
        // A field that is missing in a list is named by the list's entry or by its own name.
        assert_eq!((status, param.as_str()), (400, field), "{shown}");
    }
    assert!(engine.seen().is_empty());
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!("{{\"messages\":[{}1]}}", "1,".repeat(300_000));
    let texts = [
        "",
        "{",
        "nonsense",
        "[]",
        "5",
        "null",
        "\"messages\"",
        "{\"messages\":[]} x",
        "{\"messages\": NaN}",
        &deep,
        &wide,
    ];
    for text in texts {
        let (status, param, code) = post_text(&router, CHAT, text.to_owned()).await.error();
        let start: String = text.chars().take(20).collect();
        assert_eq!((status, param.as_str(), code.as_str()), (400, "", "invalid_json"), "{start}");
    }
    let error = post_text(&router, CHAT, &b"{\"messages\": \"\xff\xfe\"}"[..]).await.error();
    assert_eq!(error, (400, String::new(), "invalid_json".into()));
    // More than a number can be.
    let text = r#"{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}"#;
    let error = post_text(&router, CHAT, text).await.error();
    assert_eq!(error, (400, "temperature".into(), "invalid_value".into()));
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let body = chat(json!({"user": "u".repeat(10 << 20)})).to_string();
    for path in [CHAT, COMPLETIONS, "/answer", "/tokenize", "/detokenize", "/v1/load_lora_adapter"]
    {
        let error = post_text(&router, path, body.clone()).await.error();
        assert_eq!(error, (413, String::new(), "body_too_large".into()), "{path}");
    }
    // So large that it is not even read.
    let request = Request::post(CHAT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, u64::MAX.to_string());
    assert_eq!(send(&router, request.body(Body::empty()).unwrap()).await.error().0, 413);
}

#[tokio::test]
async fn other_content_types_are_refused() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let body = chat(json!({})).to_string();
    for (content_type, status) in [
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (None, 415),
        (Some("application/json; charset=utf-8"), 200),
        (Some("Application/JSON"), 200),
    ] {
        let mut request = Request::post(CHAT);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let answer = send(&router, request.body(Body::from(body.clone())).unwrap()).await;
        assert_eq!(answer.status, status, "{content_type:?}");
    }
}

#[tokio::test]
async fn the_limits_are_the_servers() {
    let engine = Scripted::saying("x");
    let mut config = config();
    config.limits.n = 2;
    config.limits.body_bytes = 1000;
    let router = server(&engine, config).router();
    assert_eq!(post(&router, CHAT, chat(json!({"n": 3}))).await.error().1, "n");
    assert_eq!(post_text(&router, CHAT, " ".repeat(1001)).await.error().0, 413);
    post(&router, CHAT, chat(json!({"n": 2}))).await.ok();
}

#[tokio::test]
async fn errors_do_not_repeat_long_texts() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let long = "é".repeat(10_000);
    let key: &str = &long;
    let parameters = json!({"type": "function", "function": {"name": "f", "parameters": long}});
    let bodies = [
        json!({"temperature": long}),
        json!({"response_format": {"type": long}}),
        json!({"logit_bias": {key: "x"}}),
        json!({"logit_bias": {key: 1}}),
        json!({"model": long}),
        json!({"tools": [parameters]}),
        json!({"messages": [{"role": long, "content": "a"}]}),
    ];
    for body in bodies {
        let answer = post(&router, CHAT, chat(body)).await;
        answer.error();
        assert!(answer.text.len() < 2000, "{}", answer.text);
    }
    let answer = post(&router, CHAT, chat(json!({"messages": [{"role": long}]}))).await;
    assert!(answer.text.contains("expected one of `system`"), "{}", answer.text);
    let answer = post(&router, &format!("/{}", "a".repeat(10_000)), json!({})).await;
    assert!(answer.error().0 == 404 && answer.text.len() < 2000, "{}", answer.text);
}

/// What clients write that mean no limit, nothing, or a whole number.
#[tokio::test]
async fn habits_of_clients_are_understood() {
    let engine = Scripted::saying("hello");
    let router = router(&engine);
    for (fields, expected) in [
        (json!({}), (usize::MAX, 1.0, 0)),
        (json!({"max_tokens": -1, "top_k": -1}), (usize::MAX, 1.0, 0)),
        (json!({"max_tokens": null, "max_completion_tokens": null}), (usize::MAX, 1.0, 0)),
        (json!({"max_tokens": 16384, "top_p": 1}), (16384, 1.0, 0)),
        (json!({"max_tokens": u64::MAX}), (usize::MAX, 1.0, 0)),
        (json!({"max_tokens": 12.0, "top_k": 5.0, "n": 1.0, "min_tokens": 2.0}), (12, 1.0, 5)),
        (json!({"top_p": 0, "stop": ""}), (usize::MAX, f32::MIN_POSITIVE, 0)),
        (json!({"top_p": 1e-60, "stop": []}), (usize::MAX, f32::MIN_POSITIVE, 0)),
    ] {
        post(&router, CHAT, chat(fields.clone())).await.ok();
        let seen = engine.seen().pop().unwrap().params;
        assert_eq!((seen.max_tokens, seen.top_p, seen.top_k), expected, "{fields}");
        assert!(seen.stop.is_empty());
    }
    for (seed, expected) in [
        (json!(u64::MAX), u64::MAX),
        (json!(i64::MIN), 1 << 63),
        (json!(-1), u64::MAX),
        (json!(7.0), 7),
    ] {
        post(&router, CHAT, chat(json!({"seed": seed}))).await.ok();
        assert_eq!(engine.seen().pop().unwrap().params.seed, expected, "{seed}");
    }
    // A limit that the server sets is named.
    let mut config = config();
    config.limits.max_tokens = 100;
    let router = server(&engine, config).router();
    for (fields, most) in [(json!({}), 100), (json!({"max_tokens": -1}), 100)] {
        post(&router, CHAT, chat(fields)).await.ok();
        assert_eq!(engine.seen().pop().unwrap().params.max_tokens, most);
    }
    let error = post(&router, CHAT, chat(json!({"max_tokens": 101}))).await.error();
    assert_eq!(error, (400, "max_tokens".into(), "invalid_value".into()));
}

/// What clients send back of a reply, and write in messages.
#[tokio::test]
async fn messages_have_the_forms_that_clients_write() {
    let prompt = async |messages: Value| {
        let engine = Scripted::saying("x");
        post(&router(&engine), CHAT, json!({"messages": messages})).await.ok();
        shown(&engine.one().prompt)
    };
    let user = json!({"role": "user", "content": "hi"});
    let plain = prompt(json!([user, {"role": "assistant", "content": "no"}, user])).await;
    for assistant in [
        json!({"content": null, "refusal": "no"}),
        json!({"content": [{"type": "refusal", "refusal": "no"}]}),
        json!({"content": [{"type": "output_text", "text": "no", "annotations": []}]}),
        json!({"content": "no", "refusal": null, "tool_calls": null, "function_call": null, "audio": null}),
    ] {
        let mut message = json!({"role": "assistant"});
        message.as_object_mut().unwrap().extend(assistant.as_object().unwrap().clone());
        assert_eq!(prompt(json!([user, message, user])).await, plain, "{assistant}");
    }
    let parts = json!([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]);
    assert_eq!(prompt(parts).await, prompt(json!([user])).await);
    // Nothing was said, or returned.
    for role in ["assistant", "tool"] {
        let empty = prompt(json!([user, {"role": role, "content": ""}, user])).await;
        assert_eq!(prompt(json!([user, {"role": role, "content": null}, user])).await, empty);
    }
    let router = router(&Scripted::saying("x"));
    for (message, param) in [
        (json!({"role": "user", "content": null}), "messages[0].content"),
        (json!({"role": "user"}), "messages[0].content"),
        (json!({"role": "user", "content": [{"type": "input_image"}]}), "messages[0].content[0]"),
        (json!({"role": "user", "content": [{"type": "input_text"}]}), "messages[0].content[0]"),
        (json!({"role": "assistant", "content": [{"type": "refusal"}]}), "messages[0].content[0]"),
        (
            json!({"role": "assistant", "content": "a", "function_call": {"name": "f", "arguments": ""}}),
            "messages[0].function_call",
        ),
        (json!({"role": "assistant", "content": "a", "audio": {"id": "a1"}}), "messages[0].audio"),
        (json!({"role": "user", "content": "a", "images": ["aGk="]}), "messages[0].images"),
    ] {
        let error = post(&router, CHAT, json!({"messages": [message]})).await.error();
        assert_eq!((error.0, error.1.as_str()), (400, param), "{message}");
    }
}
