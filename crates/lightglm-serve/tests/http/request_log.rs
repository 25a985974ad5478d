//! A line in the log for every request, exactly one, whatever became of it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use lightglm_serve::engine::EngineError;
use serde_json::{Value, json};
use tower::ServiceExt;
use tracing::Level;

use crate::client::{Answer, CHAT, COMPLETIONS, chat, config, send, server};
use crate::logged::{line, lines, listen};
use crate::scripted::{Script, Scripted};

fn request(id: &str, path: &str, body: &str) -> Request<Body> {
    let request = Request::post(path)
        .header("x-request-id", id)
        .header(header::AUTHORIZATION, "Bearer alpha")
        .header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn ask(router: &Router, id: &str, path: &str, body: &Value) -> Answer {
    send(router, request(id, path, &body.to_string())).await
}

fn logged(script: Script) -> Router {
    listen();
    let mut config = config();
    config.api_keys = vec!["alpha".into()];
    config.limits.body_bytes = 4096;
    config.limits.request_timeout = Duration::from_secs(1);
    server(&Scripted::following(script), config).router()
}

#[tokio::test]
async fn a_reply_says_what_it_took() {
    let router = logged(Script::Say("hello".into()));
    for (id, stream) in [("log-plain", false), ("log-stream", true)] {
        let body = chat(json!({"stream": stream, "model": "tuned"}));
        let answer = ask(&router, id, "/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200);
        let line = line(id);
        assert_eq!(line.level, Level::INFO);
        let expected = json!({
            "key": "api-key-0", "model": "tuned", "method": "POST", "path": CHAT, "status": 200,
            "finish_reason": "stop", "completion_tokens": 6,
        });
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(line.get(field), value, "{line:?}");
        }
        let [prompt, cached] = ["prompt_tokens", "cached_tokens"].map(|it| line.get(it).as_u64());
        assert!(prompt.unwrap() > 0 && cached == Some(prompt.unwrap() / 2), "{line:?}");
        let [first, total] =
            ["first_token_ms", "total_ms"].map(|it| line.get(it).as_f64().unwrap());
        assert!(0.0 < first && first <= total, "{line:?}");
        for absent in ["error", "param", "reason", "prompt", "peer"] {
            assert!(line.get(absent).is_null(), "{line:?}");
        }
    }
    // Two prompts, three choices each: prompts count once.
    let body = json!({"prompt": ["ab", "abcd"], "n": 3, "max_tokens": 2});
    let usage = ask(&router, "log-many", COMPLETIONS, &body).await.ok()["usage"].clone();
    let line = line("log-many");
    for field in ["prompt_tokens", "completion_tokens"] {
        assert_eq!(line.get(field), &usage[field], "{line:?}");
    }
    assert_eq!(line.get("finish_reason"), "length");
}

/// The answer to a HEAD has no body, and was sent all the same.
#[tokio::test]
async fn a_head_is_answered_like_another() {
    let router = logged(Script::Say("x".into()));
    for (id, path, level) in
        [("head-models", "/v1/models", Level::INFO), ("head-health", "/health", Level::DEBUG)]
    {
        let request = Request::head(path)
            .header("x-request-id", id)
            .header(header::AUTHORIZATION, "Bearer alpha");
        send(&router, request.body(Body::empty()).unwrap()).await;
        let line = line(id);
        assert_eq!((line.level, line.get("status")), (level, &json!(200)), "{line:?}");
    }
}

#[tokio::test]
async fn refusals_say_why_and_not_what_was_asked() {
    let router = logged(Script::Say("x".into()));
    let secret = "my secret wish";
    let large = json!({"prompt": "x".repeat(5000)}).to_string();
    let cases = [
        (CHAT, json!({"messages": secret}).to_string(), 400, "invalid_value", "messages"),
        (
            CHAT,
            chat(json!({"temperature": secret})).to_string(),
            400,
            "invalid_value",
            "temperature",
        ),
        (CHAT, chat(json!({"temperature": 9})).to_string(), 400, "invalid_value", "temperature"),
        (CHAT, format!("{{\"a\": {secret}}}"), 400, "invalid_json", ""),
        (CHAT, chat(json!({"model": "none"})).to_string(), 404, "model_not_found", "model"),
        (COMPLETIONS, large, 413, "body_too_large", ""),
        ("/nowhere", String::new(), 404, "not_found", ""),
        ("/metrics", String::new(), 405, "method_not_allowed", ""),
    ];
    for (number, (path, body, status, code, param)) in cases.into_iter().enumerate() {
        let id = format!("log-refused-{number}");
        send(&router, request(&id, path, &body)).await;
        let line = line(&id);
        assert_eq!(line.level, Level::INFO);
        assert_eq!((line.get("status"), line.get("error")), (&json!(status), &json!(code)));
        assert_eq!(line.get("param").as_str().unwrap_or_default(), param);
        assert!(!line.get("reason").as_str().unwrap().is_empty(), "{line:?}");
        assert!(!format!("{line:?}").contains("secret"), "{line:?}");
    }
    for (id, key, code) in
        [("log-nokey", None, "missing_api_key"), ("log-wrong", Some("no"), "invalid_api_key")]
    {
        let mut request = Request::get("/v1/models").header("x-request-id", id);
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        send(&router, request.body(Body::empty()).unwrap()).await;
        let line = line(id);
        assert_eq!((line.get("status"), line.get("error")), (&json!(401), &json!(code)));
        assert!(line.get("key").is_null());
    }
}

#[tokio::test]
async fn what_fails_is_logged_once() {
    let panics = logged(Script::Panic);
    assert_eq!(ask(&panics, "log-panic", CHAT, &chat(json!({}))).await.status, 500);
    assert_eq!(line("log-panic").get("status"), 500);
    let fails = logged(Script::Fail(EngineError::DeadlinePassed { generated: 1 }));
    for (id, stream, status) in [("log-fail", false, 408), ("log-fail-stream", true, 200)] {
        ask(&fails, id, CHAT, &chat(json!({"stream": stream}))).await;
        let line = line(id);
        assert_eq!((line.get("status"), line.get("error")), (&json!(status), &json!("timeout")));
        assert_eq!(line.get("completion_tokens"), 1);
    }
}

#[tokio::test]
async fn who_goes_away_is_logged_with_what_it_took() {
    let router = logged(Script::Forever(Duration::from_millis(1)));
    // Before there is an answer, and in the middle of one.
    let waits = router.clone().oneshot(request("log-gone", CHAT, &chat(json!({})).to_string()));
    assert!(tokio::time::timeout(Duration::from_millis(100), waits).await.is_err());
    let body = chat(json!({"stream": true})).to_string();
    let response = router.oneshot(request("log-left", CHAT, &body)).await.unwrap();
    assert!(lines("log-left").is_empty(), "it has only begun");
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(response);
    for id in ["log-gone", "log-left"] {
        let line = line(id);
        assert_eq!((line.get("status"), line.get("error")), (&json!(499), &json!("client_closed")));
        assert!(line.get("completion_tokens").as_u64().unwrap() > 0, "{line:?}");
    }
}

#[tokio::test]
async fn probes_are_for_debugging_and_prompts_for_who_asks() {
    let open = logged(Script::Say("x".into()));
    for path in ["/health", "/ready", "/metrics"] {
        let id = format!("log-probe-{}", &path[1..]);
        let request = Request::get(path).header("x-request-id", &id);
        let request = request.header(header::AUTHORIZATION, "Bearer alpha");
        assert_eq!(send(&open, request.body(Body::empty()).unwrap()).await.status, 200);
        assert_eq!(line(&id).level, Level::DEBUG);
    }
    let mut config = config();
    config.log_prompts = true;
    let router = server(&Scripted::saying("x"), config).router();
    ask(&router, "log-prompt", COMPLETIONS, &json!({"prompt": ["one", "two"], "n": 2})).await.ok();
    assert_eq!(line("log-prompt").get("prompt"), "one\ntwo");
}
