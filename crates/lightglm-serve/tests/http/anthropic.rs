//! Anthropic's Messages API.

use axum::body::Body;
use axum::http::{Request, header};
use lightglm_serve::engine::{EngineError, Rejection};
use serde_json::{Value, json};

use crate::client::{Answer, config, get, post, post_text, router, send, server};
use crate::scripted::{Script, Scripted};
use crate::toy_text::shown;

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

/// A request that says `hi`, with more fields.
fn asked(fields: Value) -> Value {
    let user = json!({"role": "user", "content": "hi"});
    let mut body = json!({"model": "toy", "max_tokens": 100, "messages": [user]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn weather() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!([{"name": "get_weather", "description": "Weather", "input_schema": schema},
           {"type": "custom", "name": "get_time", "input_schema": {"type": "object"}}])
}

fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/event-stream");
    let events = answer.text.split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').unwrap_or_else(|| panic!("{event:?}"));
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event["type"], name.strip_prefix("event: ").unwrap());
        event
    });
    events.collect()
}

/// The message that a client makes of the events.
fn assembled(events: &[Value]) -> Value {
    assert_eq!(events[0]["type"], "message_start");
    let mut message = events[0]["message"].clone();
    let mut arguments = String::new();
    for event in &events[1..] {
        let index = event["index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(message["content"].as_array().unwrap().len(), index);
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
                arguments.clear();
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                let block = &mut message["content"][index];
                let field = match delta["type"].as_str().unwrap() {
                    "text_delta" => "text",
                    "thinking_delta" => "thinking",
                    "input_json_delta" => {
                        arguments += delta["partial_json"].as_str().unwrap();
                        continue;
                    }
                    kind => panic!("{kind}"),
                };
                let text = block[field].as_str().unwrap().to_owned();
                block[field] = (text + delta[field].as_str().unwrap()).into();
            }
            "content_block_stop" if message["content"][index]["type"] == "tool_use" => {
                message["content"][index]["input"] = serde_json::from_str(&arguments).unwrap();
            }
            "content_block_stop" => {}
            "message_delta" => {
                for field in ["stop_reason", "stop_sequence"] {
                    message[field] = event["delta"][field].clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => {}
            kind => panic!("{kind}"),
        }
    }
    message
}

/// A message, whole and streamed, which must be the same.
async fn answered(script: &str, fields: Value) -> Value {
    let engine = Scripted::saying(script);
    let router = crate::take_away::router(&engine);
    let whole = post(&router, MESSAGES, asked(fields.clone())).await.ok();
    let mut body = asked(fields);
    body["stream"] = true.into();
    let mut streamed = assembled(&events(&post(&router, MESSAGES, body).await));
    let mut expected = whole.clone();
    for message in [&mut streamed, &mut expected] {
        message["id"] = Value::Null;
        for block in message["content"].as_array_mut().unwrap() {
            block.as_object_mut().unwrap().remove("id");
        }
    }
    assert_eq!(streamed, expected);
    whole
}

#[tokio::test]
async fn a_message_has_anthropics_shape() {
    let message = answered("hé", json!({"system": "be kind"})).await;
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(message["model"], "toy");
    assert_eq!(message["content"], json!([{"type": "text", "text": "hé"}]));
    assert_eq!(message["stop_reason"], "end_turn");
    assert_eq!(message["stop_sequence"], Value::Null);
    let usage = &message["usage"];
    let prompt = "<system\nbe kind<user\nhi<".len() + 1;
    let count = |field: &str| usage[field].as_u64().unwrap() as usize;
    assert_eq!(count("input_tokens") + count("cache_read_input_tokens"), prompt);
    assert_eq!(count("output_tokens"), 4);
}

#[tokio::test]
async fn the_reason_of_the_end_is_told() {
    let stops = |stops: Value| json!({"stop_sequences": stops});
    for (fields, reason, sequence, text) in [
        (json!({"max_tokens": 2}), "max_tokens", Value::Null, "ab"),
        (stops(json!(["cd"])), "stop_sequence", json!("cd"), "abcdef"),
        (stops(json!(["never"])), "end_turn", Value::Null, "abcdef"),
        (stops(json!([])), "end_turn", Value::Null, "abcdef"),
    ] {
        let engine = Scripted::saying("abcdef");
        let message = post(&router(&engine), MESSAGES, asked(fields.clone())).await.ok();
        // The scripted engine does not look for strings: what it was asked shows.
        if sequence.is_null() {
            assert_eq!(message["stop_reason"], reason, "{fields}");
            assert_eq!(message["content"][0]["text"], text, "{fields}");
        } else {
            assert_eq!(json!(engine.one().params.stop), json!([sequence]));
        }
    }
    for (script, stops, found) in [
        ("one STOP two", json!(["STOP"]), "STOP"),
        ("one STOP two", json!(["two", "STOP"]), "STOP"),
        ("one 停 two", json!(["two", "停"]), "停"),
    ] {
        let engine = Scripted::following(Script::UntilStop(script.into()));
        let body = asked(json!({"stop_sequences": stops}));
        let message = post(&router(&engine), MESSAGES, body).await.ok();
        assert_eq!(message["stop_reason"], "stop_sequence");
        assert_eq!(message["stop_sequence"], found);
        assert_eq!(message["content"][0]["text"], "one ");
    }
}

#[tokio::test]
async fn tools_are_used_and_their_results_go_back() {
    let script = "One moment.\nget_weather\n{\"city\": \"Paris\"}\nget_time\n{}";
    let message = answered(script, json!({"tools": weather()})).await;
    assert_eq!(message["stop_reason"], "tool_use");
    let content = message["content"].as_array().unwrap();
    assert_eq!(content[0], json!({"type": "text", "text": "One moment."}));
    assert_eq!(content[1]["type"], "tool_use");
    assert_eq!(content[1]["name"], "get_weather");
    assert_eq!(content[1]["input"], json!({"city": "Paris"}));
    assert!(content[1]["id"].as_str().unwrap().starts_with("toolu_"));
    assert_eq!(content[2]["input"], json!({}));

    let results = json!([
        {"type": "tool_result", "tool_use_id": content[1]["id"],
         "content": [{"type": "text", "text": "sunny", "cache_control": {"type": "ephemeral"}}]},
        {"type": "tool_result", "tool_use_id": content[2]["id"], "content": "lost",
         "is_error": true},
        {"type": "text", "text": "go on"},
    ]);
    let messages = json!([{"role": "user", "content": "hi"},
                          {"role": "assistant", "content": content},
                          {"role": "user", "content": results}]);
    let engine = Scripted::saying("x");
    let body = asked(json!({"messages": messages, "tools": weather()}));
    post(&router(&engine), MESSAGES, body).await.ok();
    let expected = "<256>[get_weather][get_time]<257>user\nhi<257>assistant\nOne moment.\
        <257>assistant:get_weather\n{\"city\":\"Paris\"}<257>assistant:get_time\n{}\
        <257>observation\nsunny<257>observation\nError: lost<257>user\ngo on<258>";
    assert_eq!(shown(&engine.one().prompt), expected);
}

#[tokio::test]
async fn tools_are_chosen() {
    for (choice, processors, told) in [
        (json!({"type": "auto"}), 0, true),
        (json!({"type": "any"}), 1, true),
        (json!({"type": "tool", "name": "get_time"}), 1, true),
        (json!({"type": "none"}), 0, false),
    ] {
        let engine = Scripted::saying("get_time\n{}");
        let router = crate::take_away::router(&engine);
        let body = asked(json!({"tools": weather(), "tool_choice": choice}));
        post(&router, MESSAGES, body).await.ok();
        assert_eq!(engine.one().processors, processors, "{choice}");
        assert_eq!(shown(&engine.one().prompt).contains("[get_time]"), told, "{choice}");
    }
    let script = "get_weather\n{}\nget_time\n{}";
    let choice = json!({"type": "auto", "disable_parallel_tool_use": true});
    let message = answered(script, json!({"tools": weather(), "tool_choice": choice})).await;
    assert_eq!(message["content"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn thoughts_are_blocks() {
    let aloud = json!([{"role": "user", "content": "think aloud"}]);
    let fields = json!({"messages": aloud,
                        "thinking": {"type": "enabled", "budget_tokens": 50}});
    let message = answered("let me see</think>yes", fields).await;
    let thought = json!({"type": "thinking", "thinking": "let me see", "signature": ""});
    assert_eq!(message["content"], json!([thought, {"type": "text", "text": "yes"}]));
    // They come back with the turn that they led to.
    let messages = json!([{"role": "user", "content": "hi"},
                          {"role": "assistant", "content": message["content"]},
                          {"role": "user", "content": "why"}]);
    let engine = Scripted::saying("x");
    post(&router(&engine), MESSAGES, asked(json!({"messages": messages}))).await.ok();
    let prompt = shown(&engine.one().prompt);
    assert_eq!(prompt, "<256><257>user\nhi<257>assistant\nyes<257>user\nwhy<258>");
    for kind in ["disabled", "adaptive"] {
        let fields = json!({"thinking": {"type": kind}});
        assert_eq!(answered("yes", fields).await["content"][0]["text"], "yes");
    }
}

#[tokio::test]
async fn a_last_answer_is_continued() {
    let engine = Scripted::saying("x");
    let messages =
        json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]);
    post(&router(&engine), MESSAGES, asked(json!({"messages": messages}))).await.ok();
    assert_eq!(shown(&engine.one().prompt), "<256><257>user\nhi<257>assistant\nso");
}

#[tokio::test]
async fn tokens_are_counted_by_the_same_template() {
    for fields in [
        json!({}),
        json!({"system": [{"type": "text", "text": "be kind"}, {"type": "text", "text": "short"}]}),
        json!({"tools": weather(), "tool_choice": {"type": "auto"}}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "数一数"}]}]}),
    ] {
        let engine = Scripted::saying("x");
        let router = router(&engine);
        let mut body = asked(fields);
        post(&router, MESSAGES, body.clone()).await.ok();
        body.as_object_mut().unwrap().remove("max_tokens");
        let count = post(&router, COUNT, body).await.ok();
        assert_eq!(count, json!({"input_tokens": engine.one().prompt.len()}));
    }
}

/// Status and kind of an error in Anthropic's shape, and what its message names in backticks.
fn refused(answer: &Answer) -> (u16, String, String) {
    let body = answer.json();
    assert_eq!(body["type"], "error", "{answer:?}");
    let message = body["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
    let named = message.split('`').nth(1).unwrap_or_default().to_owned();
    assert_eq!(body["request_id"], answer.headers["request-id"].to_str().unwrap());
    (answer.status.as_u16(), body["error"]["type"].as_str().unwrap().to_owned(), named)
}

#[tokio::test]
async fn the_field_that_is_wrong_is_named() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let turns = |assistant: Value, user: Value| {
        json!({"messages": [{"role": "user", "content": "hi"},
                            {"role": "assistant", "content": assistant},
                            {"role": "user", "content": user}]})
    };
    let call = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "x"});
    for (fields, param) in [
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": [3]}), "messages[0]"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (user(json!(3)), "messages[0].content"),
        (user(json!([])), "messages[0].content"),
        (user(json!([{"type": "image", "source": {}}])), "messages[0].content[0].type"),
        (user(json!([{"type": "document", "source": {}}])), "messages[0].content[0].type"),
        (user(json!([{"type": "text"}])), "messages[0].content[0].text"),
        (user(json!([{"text": "x"}])), "messages[0].content[0].type"),
        (user(json!([call])), "messages[0].content[0].type"),
        (user(json!([result("t")])), "messages[0].content[0].tool_use_id"),
        (turns(json!([call]), json!([result("u")])), "messages[2].content[0].tool_use_id"),
        (
            turns(
                json!([call]),
                json!([{"type": "tool_result", "tool_use_id": "t",
                                         "content": [{"type": "image"}]}]),
            ),
            "messages[2].content[0].content[0].type",
        ),
        (turns(json!([call, call]), json!("x")), "messages[1].content[1].id"),
        (
            turns(json!([{"type": "tool_use", "id": "t", "name": "f", "input": "{}"}]), json!("x")),
            "messages[1].content[0].input",
        ),
        (
            turns(json!([{"type": "tool_use", "id": "t", "name": "", "input": {}}]), json!("x")),
            "messages[1].content[0].name",
        ),
        (
            turns(json!([{"type": "redacted_thinking", "data": "x"}]), json!("x")),
            "messages[1].content[0].type",
        ),
        (json!({"system": 3}), "system"),
        (json!({"system": [{"type": "image"}]}), "system[0].type"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"top_p": -1}), "top_p"),
        (json!({"top_k": -2}), "top_k"),
        (json!({"stop_sequences": "x"}), "stop_sequences"),
        (json!({"stop_sequences": [""]}), "stop_sequences"),
        (json!({"metadata": {"user_id": 3}}), "metadata.user_id"),
        (json!({"metadata": {"user_id": "x".repeat(300)}}), "metadata.user_id"),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            "tools[0].type",
        ),
        (json!({"tools": [{"name": "f"}]}), "tools[0].input_schema"),
        (json!({"tools": [{"input_schema": {}}]}), "tools[0].name"),
        (json!({"tools": [{"name": "a b", "input_schema": {}}]}), "tools[0].name"),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "tool"}}), "tool_choice.name"),
        (json!({"tool_choice": {"type": "tool", "name": "f"}}), "tool_choice.name"),
        (json!({"tool_choice": "any"}), "tool_choice"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 5}}), "thinking.type"),
        (json!({"thinking": {"type": "sometimes"}}), "thinking.type"),
        (json!({"output_config": {"effort": "low"}}), "output_config.effort"),
        (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format.type"),
        (
            json!({"output_config": {"format": {"type": "json_schema"}}}),
            "output_config.format.schema",
        ),
        (json!({"mcp_servers": [{"name": "x"}]}), "mcp_servers"),
        (json!({"container": "c"}), "container"),
        (json!({"stop": ["x"]}), "stop"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"min_p": 0.5}), "min_p"),
        (json!({"context_management": {"edits": [1]}}), "context_management"),
        (user(json!("leave out")), "messages[0].content"),
    ] {
        let answer = post(&router, MESSAGES, asked(fields.clone())).await;
        let expected = (400, "invalid_request_error".to_owned(), param.to_owned());
        assert_eq!(refused(&answer), expected, "{fields}");
    }
    assert!(engine.seen().is_empty());
    let harmless = json!({"metadata": {"user_id": "me"}, "service_tier": "auto", "top_k": 0,
                          "thinking": null, "betas": [], "max_tokens": 12.0});
    post(&router, MESSAGES, asked(harmless)).await.ok();
}

#[tokio::test]
async fn every_error_has_anthropics_shape() {
    let engine = Scripted::saying("x");
    let mut closed = config();
    closed.api_keys = vec!["alpha".into()];
    let keyed = server(&engine, closed).router();
    let answer = post(&keyed, MESSAGES, asked(json!({}))).await;
    assert_eq!((refused(&answer).0, refused(&answer).1), (401, "authentication_error".into()));
    let open = router(&engine);
    let answer = post(&open, MESSAGES, asked(json!({"model": "claude"}))).await;
    assert_eq!(refused(&answer), (404, "not_found_error".into(), "claude".into()));
    assert_eq!(refused(&get(&open, MESSAGES).await).0, 405);
    let answer = get(&open, "/v1/messages/batches").await;
    assert_eq!(refused(&answer).1, "not_found_error");
    let answer = post_text(&open, MESSAGES, "{").await;
    assert_eq!((refused(&answer).0, refused(&answer).1), (400, "invalid_request_error".into()));
    let large = format!("\"{}\"", "x".repeat(3 << 20));
    let answer = post_text(&open, MESSAGES, large).await;
    assert_eq!((refused(&answer).0, refused(&answer).1), (413, "request_too_large".into()));
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(4100)}]});
    assert_eq!(refused(&post(&open, MESSAGES, asked(long)).await).0, 400);
    let full = Rejection::QueueFull { waiting: 1, retry_after: std::time::Duration::from_secs(3) };
    let full = router(&Scripted::following(Script::Reject(full)));
    let answer = post(&full, MESSAGES, asked(json!({}))).await;
    assert_eq!((refused(&answer).0, refused(&answer).1), (429, "rate_limit_error".into()));
    assert_eq!(answer.headers[header::RETRY_AFTER], "3");
    let broken = router(&Scripted::following(Script::Fail(EngineError::Panicked)));
    let answer = post(&broken, MESSAGES, asked(json!({}))).await;
    assert_eq!((refused(&answer).0, refused(&answer).1), (500, "api_error".into()));
    let answer = post(&broken, MESSAGES, asked(json!({"stream": true}))).await;
    let last = events(&answer).pop().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("api_error")));
    let panics = router(&Scripted::following(Script::Panic));
    assert_eq!(refused(&post(&panics, MESSAGES, asked(json!({}))).await).1, "api_error");
    // A version is asked for by every client.
    let request = Request::post(MESSAGES)
        .header(header::CONTENT_TYPE, "application/json")
        .header("anthropic-version", "2023-06-01")
        .body(Body::from(asked(json!({})).to_string()));
    send(&open, request.unwrap()).await.ok();
}
