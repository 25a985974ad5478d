//! Ollama's API.

use axum::body::Body;
use axum::http::{Request, header};
use lightglm_serve::engine::EngineError;
use serde_json::{Value, json};

use crate::client::{Answer, config, get, post, router, send, server};
use crate::scripted::{Script, Scripted};
use crate::toy_text::shown;

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";

fn asked(fields: Value) -> Value {
    let mut body = json!({"model": "toy", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn prompted(fields: Value) -> Value {
    let mut body = json!({"model": "toy", "prompt": "hi"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn tools() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!([{"type": "function", "function": {"name": "get_weather", "parameters": schema}},
           {"type": "function", "function": {"name": "get_time"}}])
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/x-ndjson");
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The message of a chat, whole and in lines, which must be the same.
async fn said(script: &str, fields: Value) -> Value {
    let engine = Scripted::saying(script);
    let router = router(&engine);
    let streamed = lines(&post(&router, CHAT, asked(fields.clone())).await);
    let mut body = asked(fields);
    body["stream"] = false.into();
    let whole = post(&router, CHAT, body).await.ok();
    let joined = |field: &str| {
        let texts = streamed.iter().filter_map(|line| line["message"][field].as_str());
        texts.collect::<String>()
    };
    assert_eq!(joined("content"), whole["message"]["content"].as_str().unwrap());
    assert_eq!(joined("thinking"), whole["message"]["thinking"].as_str().unwrap_or_default());
    let calls = streamed.iter().filter_map(|line| line["message"]["tool_calls"].as_array());
    let calls: Vec<_> = calls.flatten().cloned().collect();
    assert_eq!(calls, *whole["message"]["tool_calls"].as_array().unwrap_or(&Vec::new()));
    let (last, others) = streamed.split_last().unwrap();
    assert!(others.iter().all(|line| line["done"] == false && line.get("eval_count").is_none()));
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &whole["done_reason"]));
    whole
}

#[tokio::test]
async fn a_chat_comes_in_lines_or_whole() {
    let whole = said("hé", json!({})).await;
    assert_eq!((&whole["model"], &whole["done_reason"]), (&json!("toy"), &json!("stop")));
    assert_eq!(whole["message"], json!({"role": "assistant", "content": "hé"}));
    assert_eq!(whole["eval_count"], 4);
    assert_eq!(whole["prompt_eval_count"], "<<user\nhi<".len());
    let nanos = |field: &str| whole[field].as_u64().unwrap();
    assert!(nanos("total_duration") >= nanos("prompt_eval_duration") + nanos("eval_duration"));
    assert!(nanos("eval_duration") > 0);
    assert!(whole["created_at"].as_str().unwrap().ends_with('Z'));
    let cut = said("abcdef", json!({"options": {"num_predict": 3}})).await;
    assert_eq!(
        (&cut["done_reason"], &cut["message"]["content"]),
        (&json!("length"), &json!("abc"))
    );
}

#[tokio::test]
async fn a_prompt_is_answered() {
    let engine = Scripted::saying("let me see</think>yes");
    let router = router(&engine);
    let body = prompted(json!({"prompt": "think aloud", "system": "be kind"}));
    let streamed = lines(&post(&router, GENERATE, body.clone()).await);
    let mut body = body;
    body["stream"] = false.into();
    let whole = post(&router, GENERATE, body).await.ok();
    let joined =
        |field: &str| streamed.iter().filter_map(|line| line[field].as_str()).collect::<String>();
    for (field, text) in [("response", "yes"), ("thinking", "let me see")] {
        assert_eq!((joined(field), &whole[field]), (text.to_owned(), &json!(text)));
    }
    assert!(whole.get("message").is_none());
    let prompt = shown(&engine.seen()[0].prompt);
    assert_eq!(prompt, "<256><257>system\nbe kind<257>user\nthink aloud<258>");
}

#[tokio::test]
async fn calls_have_objects_for_arguments_and_results_find_theirs() {
    let script = "One moment.\nget_weather\n{\"city\": \"Paris\"}\nget_time\n{}";
    let whole = said(script, json!({"tools": tools()})).await;
    assert_eq!(whole["message"]["content"], "One moment.");
    let calls = json!([
        {"function": {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}},
        {"function": {"index": 1, "name": "get_time", "arguments": {}}},
    ]);
    assert_eq!(whole["message"]["tool_calls"], calls);
    assert_eq!(whole["done_reason"], "stop");
    let messages = json!([
        {"role": "user", "content": "hi"},
        whole["message"],
        {"role": "tool", "content": "noon", "tool_name": "get_time"},
        {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
    ]);
    let engine = Scripted::saying("x");
    let body = asked(json!({"messages": messages, "tools": tools()}));
    assert_eq!(lines(&post(&router(&engine), CHAT, body).await).len(), 2);
    let prompt = shown(&engine.one().prompt);
    assert!(prompt.contains("<257>assistant:get_weather\n{\"city\":\"Paris\"}"), "{prompt}");
    assert!(prompt.contains("<257>observation\nnoon"), "{prompt}");
}

#[tokio::test]
async fn options_reach_the_engine() {
    let engine = Scripted::saying("x");
    let router = crate::take_away::router(&engine);
    let options = json!({"temperature": 0.5, "top_k": 7, "top_p": 0.25, "min_p": 0.125,
        "num_predict": 9, "stop": ["a", "b"], "seed": 5, "repeat_penalty": 1.5,
        "frequency_penalty": 0.5, "presence_penalty": 0.25, "num_ctx": 2048, "num_gpu": 1,
        "typical_p": 1.0, "mirostat": 0, "repeat_last_n": -1});
    let format = json!({"type": "object"});
    post(&router, CHAT, asked(json!({"options": options, "format": format}))).await;
    let seen = engine.one();
    let params = &seen.params;
    assert_eq!((params.temperature, params.top_k, params.top_p), (0.5, 7, 0.25));
    assert_eq!((params.min_p, params.max_tokens, params.seed), (0.125, 9, 5));
    assert_eq!((params.repetition_penalty, params.frequency_penalty), (1.5, 0.5));
    assert_eq!((params.presence_penalty, &params.stop[..]), (0.25, &["a".into(), "b".into()][..]));
    assert_eq!(seen.processors, 1);
    for most in [-1, -2] {
        post(&router, CHAT, asked(json!({"options": {"num_predict": most}}))).await;
        assert_eq!(engine.seen().last().unwrap().params.max_tokens, usize::MAX);
    }
    let options = json!({"repeat_penalty": 1.5, "repeat_last_n": 0});
    post(&router, CHAT, asked(json!({"options": options, "model": "tuned:latest"}))).await;
    let seen = engine.seen().pop().unwrap();
    assert_eq!(seen.params.repetition_penalty, 1.0);
    assert_eq!(seen.model.as_deref(), Some("tuned"));
}

#[tokio::test]
async fn models_are_listed_and_shown() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    for path in ["/api/tags", "/api/ps"] {
        let models = get(&router, path).await.ok()["models"].clone();
        let names: Vec<_> =
            models.as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
        assert_eq!(names, [json!("toy"), json!("tuned")]);
        assert_eq!(models[1]["details"]["parent_model"], "toy");
        assert_eq!(models[0]["digest"].as_str().unwrap().len(), 64);
        assert_ne!(models[0]["digest"], models[1]["digest"]);
    }
    let shown = post(&router, "/api/show", json!({"model": "toy:latest"})).await.ok();
    assert_eq!(shown["capabilities"], json!(["completion", "tools", "thinking"]));
    assert_eq!(shown["model_info"]["lightglm.context_length"], 4096);
    assert_eq!(post(&router, "/api/show", json!({"name": "nobody"})).await.status, 404);
    assert_eq!(post(&router, "/api/show", json!({})).await.status, 400);
    let version = get(&router, "/api/version").await.ok()["version"].clone();
    assert_eq!(version.as_str().unwrap().split('.').count(), 3);
}

#[tokio::test]
async fn who_asks_nothing_is_told_that_the_model_is_there() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    for (path, body, reason) in [
        (CHAT, json!({"model": "toy"}), "load"),
        (CHAT, json!({"model": "toy", "messages": []}), "load"),
        (CHAT, json!({"model": "toy", "messages": [], "keep_alive": 0}), "unload"),
        (GENERATE, json!({"model": "toy"}), "load"),
        (GENERATE, json!({"model": "toy", "prompt": "", "keep_alive": "5m"}), "load"),
        (GENERATE, json!({"model": "toy", "keep_alive": 0}), "unload"),
    ] {
        let reply = post(&router, path, body).await.ok();
        assert_eq!((&reply["done"], &reply["done_reason"]), (&json!(true), &json!(reason)));
    }
    assert!(engine.seen().is_empty());
}

/// The status of an error in Ollama's shape, and what its message names in backticks.
fn refused(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{answer:?}");
    let message = body["error"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
    (answer.status.as_u16(), message.split('`').nth(1).unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_field_that_is_wrong_is_named() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let option = |field: &str, value: Value| json!({"options": {field: value}});
    let called = json!([{"function": {"name": "f", "arguments": {}}}]);
    let after = |message: Value| {
        json!({"messages": [{"role": "user", "content": "hi"},
                            {"role": "assistant", "content": "", "tool_calls": called}, message]})
    };
    for (fields, param) in [
        (json!({"model": null}), "model"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": [3]}), "messages[0]"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": [1]}]}), "messages[0].content"),
        (
            json!({"messages": [{"role": "user", "content": "x", "images": ["eA=="]}]}),
            "messages[0].images",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "x",
                                 "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (after(json!({"role": "tool", "content": "x", "tool_name": "g"})), "messages[2].tool_name"),
        (
            after(json!({"role": "tool", "content": "x", "tool_call_id": "g"})),
            "messages[2].tool_call_id",
        ),
        (json!({"tools": "f"}), "tools"),
        (
            json!({"tools": [{"type": "function", "function": {"name": ""}}]}),
            "tools[0].function.name",
        ),
        (json!({"format": "xml"}), "format"),
        (json!({"format": 3}), "format"),
        (json!({"think": "much"}), "think"),
        (json!({"think": true}), "think"),
        (json!({"think": "low"}), "think"),
        (json!({"options": 3}), "options"),
        // 0 and false ask for something, too.
        (json!({"temperature": 0}), "temperature"),
        (json!({"seed": 0}), "seed"),
        (json!({"enable_thinking": false}), "enable_thinking"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"parallel_tool_calls": false}), "parallel_tool_calls"),
        (option("temperature", json!("hot")), "options.temperature"),
        (option("temperature", json!(9)), "options.temperature"),
        (option("top_k", json!(-3)), "options.top_k"),
        (option("num_predict", json!(0)), "options.num_predict"),
        (option("num_ctx", json!(5000)), "options.num_ctx"),
        (option("mirostat", json!(1)), "options.mirostat"),
        (option("typical_p", json!(0.5)), "options.typical_p"),
        (option("repeat_last_n", json!(64)), "options.repeat_last_n"),
        (option("repeat_penalty", json!(0)), "options.repeat_penalty"),
        (option("stop", json!(3)), "options.stop"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"temperature": 0.5}), "temperature"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"raw": true}), "raw"),
        (json!({"template": "{{ .Prompt }}"}), "template"),
        (json!({"suffix": "x"}), "suffix"),
        (json!({"context": [1]}), "context"),
        (json!({"images": ["eA=="]}), "images"),
        (json!({"messages": [{"role": "user", "content": "leave out"}]}), "messages[0].content"),
    ] {
        let answer = post(&router, CHAT, asked(fields.clone())).await;
        assert_eq!(refused(&answer), (400, param.to_owned()), "{fields}");
    }
    for (fields, param) in [
        (json!({"prompt": 3}), "prompt"),
        (json!({"prompt": "leave out"}), "prompt"),
        (json!({"suffix": "x"}), "suffix"),
        (json!({"raw": true}), "raw"),
        (json!({"images": ["eA=="]}), "images"),
        (json!({"format": []}), "format"),
    ] {
        let answer = post(&router, GENERATE, prompted(fields.clone())).await;
        assert_eq!(refused(&answer), (400, param.to_owned()), "{fields}");
    }
    assert!(engine.seen().is_empty());
    assert_eq!(refused(&post(&router, CHAT, asked(json!({"model": "nobody"}))).await).0, 404);
    assert_eq!(refused(&get(&router, "/api/nowhere").await).0, 404);
    assert_eq!(refused(&get(&router, CHAT).await).0, 405);
    let mut closed = config();
    closed.api_keys = vec!["alpha".into()];
    assert_eq!(refused(&get(&server(&engine, closed).router(), "/api/tags").await).0, 401);
}

#[tokio::test]
async fn the_type_of_a_body_is_asked_of_browsers_alone() {
    let router = router(&Scripted::saying("x"));
    for (kind, origin, status) in [
        (None, None, 200),
        (Some("application/x-www-form-urlencoded"), None, 200),
        (Some("text/plain"), Some("http://evil.example"), 415),
        (None, Some("null"), 415),
        (Some("application/json"), Some("http://evil.example"), 200),
    ] {
        let mut request = Request::post(CHAT);
        for (name, value) in [(header::CONTENT_TYPE, kind), (header::ORIGIN, origin)] {
            request = match value {
                Some(value) => request.header(name, value),
                None => request,
            };
        }
        let request = request.body(Body::from(asked(json!({})).to_string())).unwrap();
        assert_eq!(send(&router, request).await.status, status, "{kind:?} {origin:?}");
    }
}

#[tokio::test]
async fn a_failure_halfway_is_a_line() {
    let router = router(&Scripted::following(Script::Fail(EngineError::Panicked)));
    let lines = lines(&post(&router, CHAT, asked(json!({}))).await);
    assert!(lines.last().unwrap()["error"].is_string());
    let whole = post(&router, CHAT, asked(json!({"stream": false}))).await;
    assert_eq!(refused(&whole).0, 500);
}
