//! Chats and completions as server-sent events.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use futures_core::Stream;
use lightglm_serve::engine::EngineError;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::client::{CHAT, COMPLETIONS, chat, post, router};
use crate::scripted::{Script, Scripted, wait_for};

fn contents(events: &[Value], index: u64) -> String {
    let choices = events.iter().filter_map(|event| event["choices"].get(0));
    let own = choices.filter(|choice| choice["index"] == index);
    own.filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn chunks_have_openais_shape() {
    let engine = Scripted::saying("hé");
    let answer = post(&router(&engine), CHAT, chat(json!({"stream": true}))).await;
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-cache");
    let events = answer.events();
    let choices: Vec<_> = events.iter().map(|event| event["choices"][0].clone()).collect();
    let choice = |delta: Value, finish: Value| json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
    let expected = [
        choice(json!({"role": "assistant", "content": ""}), Value::Null),
        choice(json!({"content": "h"}), Value::Null),
        choice(json!({"content": "é"}), Value::Null),
        choice(json!({}), json!("stop")),
    ];
    assert_eq!(choices, expected);
    for event in &events {
        assert_eq!(event["object"], "chat.completion.chunk");
        assert_eq!((&event["id"], &event["model"]), (&events[0]["id"], &json!("toy")));
        assert!(event.get("usage").is_none());
    }
}

#[tokio::test]
async fn usage_comes_last_where_it_is_asked_for() {
    let engine = Scripted::saying("ab");
    let fields = json!({"stream": true, "stream_options": {"include_usage": true}, "n": 2});
    let events = post(&router(&engine), CHAT, chat(fields)).await.events();
    let (last, others) = events.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 6);
    assert!(others.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    assert_eq!((contents(&events, 0), contents(&events, 1)), ("ab".into(), "ab".into()));
}

#[tokio::test]
async fn log_probabilities_come_with_their_tokens() {
    let engine = Scripted::saying("é!");
    let fields = json!({"stream": true, "logprobs": true, "top_logprobs": 1});
    let events = post(&router(&engine), CHAT, chat(fields)).await.events();
    let lists =
        events.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(lists.flatten().count(), 3);
    assert_eq!(contents(&events, 0), "é!");
}

#[tokio::test]
async fn completions_stream_too() {
    let engine = Scripted::saying("abc");
    let body = json!({"prompt": ["x", "y"], "stream": true, "logprobs": 1, "max_tokens": 2,
                      "stream_options": {"include_usage": true}});
    let events = post(&router(&engine), COMPLETIONS, body).await.events();
    let (last, others) = events.split_last().unwrap();
    assert_eq!(last["usage"]["completion_tokens"], 4);
    for index in 0..2 {
        let own: Vec<_> =
            others.iter().map(|e| &e["choices"][0]).filter(|c| c["index"] == index).collect();
        let text: String = own.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(text, "ab");
        assert_eq!(own[1]["logprobs"]["text_offset"], json!([1]));
        assert_eq!(own.last().unwrap()["finish_reason"], "length");
    }
}

#[tokio::test]
async fn a_failure_halfway_is_an_event() {
    let engine = Scripted::following(Script::Fail(EngineError::Panicked));
    let events = post(&router(&engine), CHAT, chat(json!({"stream": true}))).await.events();
    let error = &events.last().unwrap()["error"];
    assert_eq!(error["type"], "server_error");
    assert_eq!(contents(&events, 0), "x");
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_cancelled() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(1)));
    let body = chat(json!({"stream": true, "max_tokens": 8192, "n": 3})).to_string();
    let request = Request::post(CHAT).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body)).unwrap();
    let response = router(&engine).oneshot(request).await.unwrap();
    let mut stream = response.into_body().into_data_stream();
    for _ in 0..10 {
        let chunk = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
        assert!(chunk.unwrap().unwrap().starts_with(b"data: {"));
    }
    assert_eq!((engine.open(), engine.cancelled()), (3, 0));
    drop(stream);
    wait_for("the cancelling", || engine.open() == 0);
    assert_eq!(engine.cancelled(), 3);
}

#[tokio::test]
async fn a_handler_that_is_dropped_is_cancelled() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(1)));
    let router = router(&engine);
    let call = async move { post(&router, CHAT, chat(json!({"max_tokens": 8192}))).await };
    let waited = tokio::time::timeout(Duration::from_millis(100), call).await;
    assert!(waited.is_err());
    wait_for("the cancelling", || engine.open() == 0);
    assert_eq!(engine.cancelled(), 1);
}
