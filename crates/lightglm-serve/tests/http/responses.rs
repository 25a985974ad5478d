//! OpenAI's Responses API.

use axum::body::Body;
use axum::http::{Request, header};
use lightglm_serve::engine::EngineError;
use serde_json::{Value, json};

use crate::client::{Answer, config, get, post, router, send, server};
use crate::scripted::{Script, Scripted};
use crate::toy_text::shown;

const RESPONSES: &str = "/v1/responses";

/// A request that says `hi`, with more fields.
fn asked(fields: Value) -> Value {
    let mut body = json!({"input": "hi"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn weather() -> Value {
    json!([{"type": "function", "name": "get_weather", "description": "Weather", "strict": true,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
           {"type": "function", "name": "get_time"}])
}

/// The events of a stream: each names itself twice, and they are counted.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/event-stream");
    let events = answer.text.split_terminator("\n\n").enumerate().map(|(index, event)| {
        let (name, data) = event.split_once('\n').unwrap_or_else(|| panic!("{event:?}"));
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event["type"], name.strip_prefix("event: ").unwrap());
        assert_eq!(event["sequence_number"], index);
        event
    });
    events.collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// The events put together as a client does it; the response of the last event must be the same.
fn assembled(events: &[Value]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    for event in events {
        let index = event["output_index"].as_u64().unwrap_or(0) as usize;
        let content = event["content_index"].as_u64().unwrap_or(0) as usize;
        let append = |to: &mut Value| {
            *to = (to.as_str().unwrap().to_owned() + event["delta"].as_str().unwrap()).into();
        };
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                assert_eq!(index, output.len());
                output.push(event["item"].clone());
            }
            "response.content_part.added" => {
                let parts = output[index]["content"].as_array_mut().unwrap();
                assert_eq!(content, parts.len());
                parts.push(event["part"].clone());
            }
            "response.output_text.delta" | "response.reasoning_text.delta" => {
                assert_eq!(event["item_id"], output[index]["id"]);
                append(&mut output[index]["content"][content]["text"]);
            }
            "response.function_call_arguments.delta" => {
                append(&mut output[index]["arguments"]);
            }
            "response.output_text.done" | "response.reasoning_text.done" => {
                assert_eq!(event["text"], output[index]["content"][content]["text"]);
            }
            "response.function_call_arguments.done" => {
                assert_eq!(event["arguments"], output[index]["arguments"]);
            }
            "response.content_part.done" => {
                assert_eq!(event["part"]["text"], output[index]["content"][content]["text"]);
                output[index]["content"][content] = event["part"].clone();
            }
            "response.output_item.done" => {
                output[index]["status"] = event["item"]["status"].clone();
                assert_eq!(event["item"], output[index]);
            }
            _ => {}
        }
    }
    let response = events.last().unwrap()["response"].clone();
    assert_eq!(response["output"], json!(output));
    response
}

#[tokio::test]
async fn a_response_has_openais_shape() {
    let engine = Scripted::saying("hé");
    let body = asked(json!({"instructions": "be kind", "max_output_tokens": 9, "temperature": 0.5,
                            "metadata": {"a": "b"}, "user": "me"}));
    let response = post(&router(&engine), RESPONSES, body).await.ok();
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!(response["object"], "response");
    assert_eq!(response["status"], "completed");
    assert_eq!((&response["error"], &response["incomplete_details"]), (&Value::Null, &Value::Null));
    let [item] = &response["output"].as_array().unwrap()[..] else { panic!("{response}") };
    assert!(item["id"].as_str().unwrap().starts_with("msg_"));
    let part = json!({"type": "output_text", "text": "hé", "annotations": []});
    assert_eq!(
        *item,
        json!({"id": item["id"], "type": "message", "role": "assistant", "status": "completed",
               "content": [part]})
    );
    assert_eq!(response["instructions"], "be kind");
    assert_eq!((&response["temperature"], &response["top_p"]), (&json!(0.5), &json!(1.0)));
    assert_eq!((&response["model"], &response["store"]), (&json!("toy"), &json!(false)));
    assert_eq!((&response["metadata"], &response["user"]), (&json!({"a": "b"}), &json!("me")));
    assert_eq!(response["text"], json!({"format": {"type": "text"}}));
    let prompt = engine.one().prompt.len();
    assert_eq!(response["usage"]["input_tokens"], prompt);
    assert_eq!(response["usage"]["input_tokens_details"]["cached_tokens"], prompt / 2);
    assert_eq!(response["usage"]["output_tokens"], 4);
    assert_eq!(response["usage"]["output_tokens_details"]["reasoning_tokens"], 0);
    assert_eq!(response["usage"]["total_tokens"], prompt + 4);
    assert_eq!(engine.one().params.max_tokens, 9);
    assert_eq!(shown(&engine.one().prompt), "<256><257>system\nbe kind<257>user\nhi<258>");
}

#[tokio::test]
async fn events_come_in_order() {
    let engine = Scripted::saying("hé");
    let answer = post(&router(&engine), RESPONSES, asked(json!({"stream": true}))).await;
    let events = events(&answer);
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names(&events), expected);
    assert_eq!(events[0]["response"]["status"], "in_progress");
    assert_eq!(events[0]["response"]["output"], json!([]));
    let response = assembled(&events);
    assert_eq!(response["id"], events[0]["response"]["id"]);
    assert_eq!(response["output"][0]["content"][0]["text"], "hé");
    assert_eq!(response["usage"]["output_tokens"], 4);
}

#[tokio::test]
async fn calls_are_items() {
    let engine = Scripted::saying("One moment.\nget_weather\n{\"city\": \"Paris\"}\nget_time\n{}");
    let router = router(&engine);
    let whole = post(&router, RESPONSES, asked(json!({"tools": weather()}))).await.ok();
    let body = asked(json!({"tools": weather(), "stream": true}));
    let events = events(&post(&router, RESPONSES, body).await);
    let streamed = assembled(&events);
    for response in [&whole, &streamed] {
        assert_eq!(response["status"], "completed");
        let output = response["output"].as_array().unwrap();
        let kinds: Vec<_> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["message", "function_call", "function_call"]);
        assert_eq!(output[0]["content"][0]["text"], "One moment.");
        assert_eq!(output[1]["name"], "get_weather");
        assert_eq!(output[1]["arguments"], "{\"city\": \"Paris\"}");
        assert!(output[1]["call_id"].as_str().unwrap().starts_with("call_"));
        assert_ne!(output[1]["call_id"], output[2]["call_id"]);
        assert_ne!(output[1]["id"], output[1]["call_id"]);
        assert_eq!(response["tools"], weather());
    }
    let done = "response.function_call_arguments.done";
    assert_eq!(names(&events).iter().filter(|name| **name == done).count(), 2);
    // What came back goes in again, whole.
    let mut input = vec![json!({"role": "user", "content": "hi"})];
    input.extend(whole["output"].as_array().unwrap().iter().cloned());
    for (index, text) in [(1, "sunny"), (2, "noon")] {
        let id = whole["output"][index]["call_id"].clone();
        input.push(json!({"type": "function_call_output", "call_id": id, "output": text}));
    }
    let body = json!({"input": input, "tools": weather()});
    post(&router, RESPONSES, body).await.ok();
    let prompt = shown(&engine.seen().last().unwrap().prompt);
    // Text and calls are one turn.
    let expected = "<256>[get_weather][get_time]<257>user\nhi<257>assistant\nOne moment.\
        <257>assistant:get_weather\n{\"city\": \"Paris\"}<257>assistant:get_time\n{}\
        <257>observation\nsunny<257>observation\nnoon<258>";
    assert_eq!(prompt, expected);
}

#[tokio::test]
async fn thoughts_are_items() {
    let engine = Scripted::saying("let me see</think>yes");
    let router = router(&engine);
    let whole = post(&router, RESPONSES, json!({"input": "think aloud"})).await.ok();
    let body = json!({"input": "think aloud", "stream": true});
    let events = events(&post(&router, RESPONSES, body).await);
    assert!(names(&events).contains(&"response.reasoning_text.done"));
    for response in [&whole, &assembled(&events)] {
        let output = response["output"].as_array().unwrap();
        assert_eq!(output.len(), 2);
        assert_eq!(output[0]["type"], "reasoning");
        assert_eq!(output[0]["summary"], json!([]));
        let thoughts = json!([{"type": "reasoning_text", "text": "let me see"}]);
        assert_eq!(output[0]["content"], thoughts);
        assert_eq!(output[1]["content"][0]["text"], "yes");
        let details = &response["usage"]["output_tokens_details"];
        assert!(details["reasoning_tokens"].as_u64().unwrap() >= 10);
    }
    // They may come back, before what they led to.
    let mut input = vec![json!({"role": "user", "content": "hi"})];
    input.extend(whole["output"].as_array().unwrap().iter().cloned());
    input.push(json!({"role": "user", "content": "why"}));
    post(&router, RESPONSES, json!({"input": input})).await.ok();
    let prompt = shown(&engine.seen().last().unwrap().prompt);
    assert!(prompt.ends_with("<257>assistant\nyes<257>user\nwhy<258>"), "{prompt}");
}

#[tokio::test]
async fn a_response_that_is_cut_is_incomplete() {
    let engine = Scripted::saying("abcdef");
    let router = router(&engine);
    let body = asked(json!({"max_output_tokens": 3}));
    let whole = post(&router, RESPONSES, body).await.ok();
    let body = asked(json!({"max_output_tokens": 3, "stream": true}));
    let events = events(&post(&router, RESPONSES, body).await);
    assert_eq!(names(&events).last(), Some(&"response.incomplete"));
    for response in [&whole, &assembled(&events)] {
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(response["output"][0]["status"], "incomplete");
        assert_eq!(response["output"][0]["content"][0]["text"], "abc");
    }
}

#[tokio::test]
async fn log_probabilities_come_where_they_are_included() {
    let engine = Scripted::saying("é!");
    let router = router(&engine);
    let fields = json!({"include": ["message.output_text.logprobs"], "top_logprobs": 1});
    let whole = post(&router, RESPONSES, asked(fields.clone())).await.ok();
    let mut body = asked(fields);
    body["stream"] = true.into();
    let events = events(&post(&router, RESPONSES, body).await);
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    let deltas = deltas.flat_map(|event| event["logprobs"].as_array().unwrap());
    assert_eq!(deltas.count(), 3);
    for response in [&whole, &assembled_with_logprobs(&events)] {
        let logprobs = response["output"][0]["content"][0]["logprobs"].as_array().unwrap();
        assert_eq!(logprobs.len(), 3);
        assert_eq!(logprobs[2]["token"], "!");
        assert_eq!(logprobs[2]["top_logprobs"].as_array().unwrap().len(), 1);
    }
}

fn assembled_with_logprobs(events: &[Value]) -> Value {
    events.last().unwrap()["response"].clone()
}

#[tokio::test]
async fn formats_and_choices_are_the_chats() {
    let engine = Scripted::saying("f\n{}");
    let constrained = |fields: Value| {
        let engine = engine.clone();
        async move {
            let router = crate::take_away::router(&engine);
            let answer = post(&router, RESPONSES, asked(fields)).await;
            answer.ok();
            engine.seen().last().unwrap().processors
        }
    };
    let format = json!({"type": "json_schema", "name": "n", "schema": {"type": "object"}});
    assert_eq!(constrained(json!({"text": {"format": format}})).await, 1);
    assert_eq!(constrained(json!({"text": {"format": {"type": "json_object"}}})).await, 1);
    assert_eq!(constrained(json!({"text": {"format": {"type": "text"}}})).await, 0);
    let tools = json!([{"type": "function", "name": "f"}, {"type": "function", "name": "g"}]);
    for (choice, processors, told) in [
        (json!("auto"), 0, "[f][g]"),
        (json!("none"), 0, ""),
        (json!("required"), 1, "[f][g]"),
        (json!({"type": "function", "name": "g"}), 1, "[f][g]"),
        (
            json!({"type": "allowed_tools", "mode": "auto",
                   "tools": [{"type": "function", "name": "g"}]}),
            0,
            "[g]",
        ),
        (
            json!({"type": "allowed_tools", "mode": "required",
                   "tools": [{"type": "function", "name": "f"}]}),
            1,
            "[f]",
        ),
    ] {
        let fields = json!({"tools": tools, "tool_choice": choice});
        assert_eq!(constrained(fields).await, processors, "{choice}");
        let prompt = shown(&engine.seen().last().unwrap().prompt);
        assert!(prompt.starts_with(&format!("<256>{told}<257>")), "{choice}: {prompt}");
    }
}

#[tokio::test]
async fn the_field_that_is_wrong_is_named() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let user = json!({"role": "user", "content": "hi"});
    for (fields, param) in [
        (json!({"input": null}), "input"),
        (json!({"input": 3}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": [3]}), "input[0]"),
        (json!({"input": [{"content": "hi"}]}), "input[0].type"),
        (json!({"input": [{"role": "robot", "content": "hi"}]}), "input[0].role"),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (json!({"input": [user, {"type": "item_reference", "id": "x"}]}), "input[1].type"),
        (json!({"input": [user, {"type": "computer_call"}]}), "input[1].type"),
        (
            json!({"input": [user, {"role": "user", "content": [
                {"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "x"}]}]}),
            "input[1].content[1].type",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]}),
            "input[0].content[0].text",
        ),
        (
            json!({"input": [user, {"type": "function_call_output", "call_id": "c", "output": "x"}]}),
            "input[1].call_id",
        ),
        (
            json!({"input": [user, call, {"type": "function_call_output", "call_id": "d",
                                          "output": "x"}]}),
            "input[2].call_id",
        ),
        (
            json!({"input": [user, call, {"type": "function_call_output", "call_id": "c",
                                          "output": 3}]}),
            "input[2].output",
        ),
        (json!({"input": [user, call, call]}), "input[2].call_id"),
        (
            json!({"input": [user, {"type": "function_call", "call_id": "c", "arguments": "{}"}]}),
            "input[1].name",
        ),
        (
            json!({"input": [user, {"type": "function_call", "call_id": "c", "name": "",
                                    "arguments": "{}"}]}),
            "input[1].name",
        ),
        (json!({"input": [user, {"type": "reasoning", "content": "x"}]}), "input[1].content"),
        (json!({"instructions": 3}), "instructions"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"max_output_tokens": -1}), "max_output_tokens"),
        (json!({"max_output_tokens": "9"}), "max_output_tokens"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"top_p": 2}), "top_p"),
        (json!({"model": "nobody"}), "model"),
        (json!({"tools": "f"}), "tools"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "custom", "name": "f"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tools": [{"type": "function", "name": "a b"}]}), "tools[0].name"),
        (
            json!({"tools": [{"type": "function", "name": "f", "parameters": 3}]}),
            "tools[0].parameters",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tool_choice": "sometimes"}), "tool_choice"),
        (json!({"tool_choice": {"type": "file_search"}}), "tool_choice.type"),
        (json!({"tool_choice": {"type": "function", "name": "f"}}), "tool_choice.name"),
        (
            json!({"tools": weather(), "tool_choice": {"type": "allowed_tools", "mode": "auto",
                "tools": [{"type": "function", "name": "f"}]}}),
            "tool_choice.tools[0].name",
        ),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema"}}}), "text.format.schema"),
        (json!({"text": {"verbosity": "low"}}), "text.verbosity"),
        (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort"),
        (json!({"reasoning": {"effort": "low"}}), "reasoning.effort"),
        (json!({"reasoning": {"summary": "detailed"}}), "reasoning.summary"),
        (json!({"include": ["file_search_call.results"]}), "include[0]"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"top_logprobs": 99, "include": ["message.output_text.logprobs"]}), "top_logprobs"),
        (json!({"stream_options": {}}), "stream_options"),
        (
            json!({"stream": true, "stream_options": {"include_obfuscation": true}}),
            "stream_options.include_obfuscation",
        ),
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"conversation": {"id": "conv_1"}}), "conversation"),
        (json!({"store": true}), "store"),
        (json!({"max_tokens": 5}), "max_tokens"),
        (json!({"messages": [1]}), "messages"),
        (json!({"n": 2}), "n"),
        (json!({"seed": 2}), "seed"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
        (json!({"background": true}), "background"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"input": "x".repeat(4100)}), "input"),
        (json!({"input": [{"role": "user", "content": "leave out"}]}), "input[0].content"),
    ] {
        let error = post(&router, RESPONSES, asked(fields.clone())).await.error();
        assert_eq!(error.1, param, "{fields}");
        assert_eq!(error.0, if param == "model" { 404 } else { 400 }, "{fields}");
    }
    assert!(engine.seen().is_empty());
    for fields in [
        json!({"store": false, "n": 1, "presence_penalty": 0, "unknown": 3}),
        json!({"truncation": "disabled", "background": false, "previous_response_id": null}),
        json!({"service_tier": "auto", "prompt_cache_key": "k", "max_tool_calls": 3}),
        json!({"include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}}),
        json!({"text": {"verbosity": "medium"}, "tools": [], "tool_choice": "auto"}),
        json!({"max_output_tokens": 12.0, "top_logprobs": 0, "conversation": null}),
        json!({"input": [{"type": "message", "role": "developer", "content": "a"},
                         {"role": "user", "content": [{"type": "input_text", "text": "b"}]},
                         {"type": "message", "role": "assistant", "id": "m", "status": "completed",
                          "content": [{"type": "refusal", "refusal": "no"}]}]}),
    ] {
        post(&router, RESPONSES, asked(fields)).await.ok();
    }
    let prompt = shown(&engine.seen().last().unwrap().prompt);
    assert_eq!(prompt, "<256><257>system\na<257>user\nb<257>assistant\nno<258>");
}

#[tokio::test]
async fn a_failure_halfway_is_a_failed_response() {
    let engine = Scripted::following(Script::Fail(EngineError::Panicked));
    let router = router(&engine);
    let events = events(&post(&router, RESPONSES, asked(json!({"stream": true}))).await);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["status"], "failed");
    assert_eq!(last["response"]["error"]["code"], "server_error");
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], "x");
    let error = post(&router, RESPONSES, asked(json!({}))).await.error();
    assert_eq!(error.0, 500);
}

#[tokio::test]
async fn nothing_is_stored() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let id = post(&router, RESPONSES, asked(json!({}))).await.ok()["id"].clone();
    let path = format!("/v1/responses/{}", id.as_str().unwrap());
    let expected = (404, String::new(), "not_found".to_owned());
    assert_eq!(get(&router, &path).await.error(), expected);
    assert_eq!(get(&router, &format!("{path}/input_items")).await.error(), expected);
    let request = Request::delete(&path).body(Body::empty()).unwrap();
    assert_eq!(send(&router, request).await.error(), expected);
    assert_eq!(post(&router, &format!("{path}/cancel"), json!({})).await.error(), expected);
    let mut closed = config();
    closed.api_keys = vec!["alpha".into()];
    let closed = server(&engine, closed).router();
    assert_eq!(post(&closed, RESPONSES, asked(json!({}))).await.error().0, 401);
}
