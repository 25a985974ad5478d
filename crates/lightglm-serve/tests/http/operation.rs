//! Probes, metrics, documents, the page, refusals, and what surrounds every request.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use lightglm_generation::{ProcessorError, SampleError, SamplingError};
use lightglm_serve::engine::{EngineError, Rejection};
use lightglm_serve::http::{ConstrainError, Constraint};
use serde_json::{Value, json};

use crate::client::{
    CHAT, COMPLETIONS, chat, config, constrained, get, post, router, send, server,
};
use crate::scripted::{Script, Scripted};

#[tokio::test]
async fn probes_tell_life_from_readiness() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    assert_eq!(get(&router, "/health").await.ok(), json!({"status": "ok"}));
    assert_eq!(get(&router, "/ready").await.ok(), json!({"status": "ready"}));
    engine.dead.store(true, Ordering::SeqCst);
    assert_eq!(get(&router, "/ready").await.error().0, 503);
    assert_eq!(get(&router, "/health").await.error().0, 503, "to be started anew");
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let engine = Scripted::saying("hello");
    let router = router(&engine);
    post(&router, CHAT, chat(json!({}))).await.ok();
    post(&router, CHAT, chat(json!({"n": 0}))).await.error();
    get(&router, "/nowhere").await.error();
    let answer = get(&router, "/metrics").await;
    let content_type = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
    assert!(content_type.starts_with("application/openmetrics-text"));
    let lines = [
        "lightglm_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "lightglm_http_requests_total{route=\"/v1/chat/completions\",status=\"400\"} 1",
        "lightglm_http_requests_total{route=\"unknown\",status=\"404\"} 1",
        "lightglm_time_to_first_token_seconds_count 1",
        "lightglm_inter_token_latency_seconds_count 5",
        "lightglm_request_latency_seconds_count 1",
        "lightglm_queue_wait_seconds_count 1",
        "lightglm_requests_waiting{model=\"toy\"} 3",
        "lightglm_requests_running{model=\"toy\"} 2",
        "lightglm_kv_blocks{model=\"toy\"} 100",
        "lightglm_kv_blocks_used{model=\"toy\"} 30",
        "lightglm_kv_blocks_cached{model=\"toy\"} 20",
        "lightglm_kv_blocks_free{model=\"toy\"} 50",
        "lightglm_steps_total{model=\"toy\"} 1001",
        "lightglm_step_sequences_total{model=\"toy\"} 1002",
        "lightglm_prompt_tokens_total{model=\"toy\"} 1003",
        "lightglm_cached_tokens_total{model=\"toy\"} 1004",
        "lightglm_generated_tokens_total{model=\"toy\"} 1005",
        "lightglm_drafted_tokens_total{model=\"toy\"} 1006",
        "lightglm_accepted_tokens_total{model=\"toy\"} 1007",
        "lightglm_preemptions_total{model=\"toy\"} 1008",
        "lightglm_requests_finished_total{model=\"toy\"} 1009",
        "lightglm_requests_cancelled_total{model=\"toy\"} 1010",
        "lightglm_requests_failed_total{model=\"toy\"} 1011",
        "lightglm_requests_rejected_total{model=\"toy\"} 1012",
        "# EOF",
    ];
    for line in lines {
        assert!(answer.text.lines().any(|other| other == line), "{line}\n{}", answer.text);
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_have_openais_shape() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let paths = [
        "/nowhere",
        "/v1",
        "/v1/models//",
        "/docs/nothing.js",
        "/docs/..%2f..%2findex.html",
        "/page/",
        "//",
        "/%00",
        // No UTF-8.
        "/%ff",
        "/page/%ff",
        "/docs/%ff",
        "/docs/%c3%28.js",
        "/v1/models/%ff",
    ];
    for path in paths {
        let answer = get(&router, path).await;
        assert_eq!(answer.error().0, 404, "{path}");
    }
    for (method, path) in [("GET", CHAT), ("DELETE", "/health"), ("PUT", "/answer"), ("TRACE", "/")]
    {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = send(&router, request).await;
        assert_eq!(answer.error(), (405, String::new(), "method_not_allowed".into()), "{path}");
        assert!(answer.headers.contains_key(header::ALLOW), "{path}");
    }
}

#[tokio::test]
async fn request_ids_come_back() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let id_of = async |given: &str| {
        let request = Request::get("/health").header("x-request-id", given);
        let answer = send(&router, request.body(Body::empty()).unwrap()).await;
        answer.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(id_of("my-id_1.2:3").await, "my-id_1.2:3");
    for harmful in ["", "a b", "<script>", &"a".repeat(129), "a\tb"] {
        let id = id_of(harmful).await;
        assert!(id.starts_with("req-") && id.len() == 36, "{id}");
    }
    assert_ne!(id_of("").await, id_of("").await);
}

#[tokio::test]
async fn refusals_say_when_to_come_again() {
    let retry_after = Duration::from_millis(2300);
    let cases = [
        (Rejection::QueueFull { waiting: 8, retry_after }, 429, "queue_full", Some("3")),
        (Rejection::KeyLimit { open: 8, retry_after: Duration::ZERO }, 429, "key_limit", Some("1")),
        (Rejection::Draining, 503, "shutting_down", Some("1")),
        (Rejection::EmptyPrompt, 400, "invalid_value", None),
        (Rejection::UnknownModel { name: "m".into() }, 404, "model_not_found", None),
        (Rejection::Sampling(SamplingError::EmptyStop), 400, "invalid_value", None),
    ];
    for (rejection, status, code, seconds) in cases {
        let engine = Scripted::following(Script::Reject(rejection));
        for stream in [false, true] {
            let router = router(&engine);
            let answer = post(&router, CHAT, chat(json!({"stream": stream}))).await;
            let error = answer.error();
            assert_eq!((error.0, error.2.as_str()), (status, code));
            let retry = answer.headers.get(header::RETRY_AFTER).map(|v| v.to_str().unwrap());
            assert_eq!(retry, seconds);
        }
    }
}

#[tokio::test]
async fn failures_are_whose_they_are() {
    let processor = ProcessorError { processor: "grammar".into(), reason: "stuck".into() };
    let cases = [
        (EngineError::Sample(SampleError::NothingToSample), 400),
        (EngineError::Sample(SampleError::Processor(processor)), 400),
        (EngineError::DeadlinePassed { generated: 3 }, 408),
        (EngineError::Panicked, 500),
        (EngineError::Stopped, 503),
    ];
    for (error, status) in cases {
        let engine = Scripted::following(Script::Fail(error));
        let answer = post(&router(&engine), CHAT, chat(json!({}))).await;
        assert_eq!(answer.error().0, status);
        let retried = answer.headers.get("x-should-retry");
        assert_eq!(retried.is_some(), status == 408);
    }
}

#[tokio::test]
async fn too_many_at_a_time_are_refused() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(1)));
    let mut config = config();
    config.limits.concurrent_requests = 1;
    let router = server(&engine, config).router();
    let other = router.clone();
    let running = tokio::spawn(async move { post(&other, CHAT, chat(json!({}))).await });
    while engine.open() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = post(&router, COMPLETIONS, json!({"prompt": "x"})).await;
    assert_eq!(answer.error(), (429, String::new(), "concurrency_limit".into()));
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    let adapter = post(&router, "/v1/load_lora_adapter", json!({"lora_name": "new"})).await;
    assert_eq!(adapter.error().2, "concurrency_limit");
    let refusals = "lightglm_rejections_total{reason=\"concurrency_limit\"} 2";
    assert!(get(&router, "/metrics").await.text.contains(refusals));
    assert_eq!(get(&router, "/health").await.status, 200);
    running.abort();
    let _ = running.await;
    post(&router, COMPLETIONS, json!({"prompt": "x", "max_tokens": 2})).await.ok();
}

#[tokio::test]
async fn replies_that_take_too_long_are_ended() {
    let engine = Scripted::following(Script::Forever(Duration::from_millis(1)));
    let mut config = config();
    config.limits.request_timeout = Duration::from_millis(50);
    let router = server(&engine, config).router();
    let body = chat(json!({"max_tokens": 8192}));
    let error = post(&router, CHAT, body).await.error();
    assert_eq!(error, (408, String::new(), "timeout".into()));
    let body = chat(json!({"max_tokens": 8192, "stream": true}));
    let events = post(&router, CHAT, body).await.events();
    assert_eq!(events.last().unwrap()["error"]["code"], "timeout");
}

#[tokio::test]
async fn texts_that_take_too_long_are_given_up() {
    let engine = Scripted::saying("x");
    let mut config = config();
    config.limits.request_timeout = Duration::from_millis(50);
    let constrain = |_: &Constraint, _: usize| {
        std::thread::sleep(Duration::from_secs(3));
        Err(ConstrainError { reason: "too late".into() })
    };
    let router = constrained(&engine, config, Arc::new(constrain)).router();
    let hard = || post(&router, COMPLETIONS, json!({"prompt": "x", "guided_regex": "a"}));
    let long = "long ".repeat(20_000);
    // One that has to wait for its turn beside those that have it.
    let (one, two, three) =
        tokio::join!(hard(), hard(), post(&router, "/tokenize", json!({"text": long})));
    for answer in [one, two, three] {
        assert_eq!(answer.error(), (408, String::new(), "timeout".into()));
    }
    assert!(engine.seen().is_empty());
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let engine = Scripted::following(Script::Panic);
    let router = router(&engine);
    let answer = post(&router, CHAT, chat(json!({}))).await;
    assert_eq!(answer.error().0, 500);
    assert!(answer.headers.contains_key("x-request-id"));
    assert_eq!(get(&router, "/health").await.status, 200);
}

#[tokio::test]
async fn the_page_is_served_with_a_strict_policy() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page");
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut types = BTreeSet::new();
    for name in names.filter(|name| !name.starts_with('.')) {
        let path = if name == "index.html" { "/".into() } else { format!("/page/{name}") };
        let answer = get(&router, &path).await;
        assert_eq!(answer.status, 200, "{path}");
        types.insert(answer.headers[header::CONTENT_TYPE].to_str().unwrap().to_owned());
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'self';") && !policy.contains("unsafe"),
            "{policy}"
        );
        let text = std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        assert_eq!(answer.text, text, "{path}");
    }
    let text = ["text/css", "text/html", "text/javascript"].map(|t| format!("{t}; charset=utf-8"));
    let expected = ["image/svg+xml".to_owned()].into_iter().chain(text);
    assert_eq!(types, expected.collect());
    let docs = get(&router, "/docs/").await;
    assert!(docs.status == 200 && docs.text.contains("swagger-ui"));
    let script = get(&router, "/docs/swagger-initializer.js").await;
    assert!(script.text.contains("/openapi.json"), "{}", script.text);
}

#[tokio::test]
async fn the_document_names_routes_limits_and_errors() {
    let engine = Scripted::saying("x");
    let mut config = config();
    config.limits.n = 5;
    let document = get(&server(&engine, config.clone()).router(), "/openapi.json").await.ok();
    let paths = document["paths"].as_object().unwrap();
    let routes = [
        CHAT,
        COMPLETIONS,
        "/v1/models",
        "/v1/models/{model}",
        "/v1/embeddings",
        "/v1/rerank",
        "/answer",
        "/tokenize",
        "/detokenize",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/health",
        "/ready",
        "/metrics",
        "/openapi.json",
    ];
    for route in routes {
        assert!(paths.contains_key(route), "{route}");
    }
    let fields = &document["components"]["schemas"]["ChatCompletionRequest"]["properties"];
    assert_eq!((&fields["n"]["minimum"], &fields["n"]["maximum"]), (&json!(1), &json!(5)));
    assert_eq!(fields["top_logprobs"]["maximum"], 20);
    assert!(fields.get("sampling").is_none());
    let responses = paths[CHAT]["post"]["responses"].as_object().unwrap();
    for status in ["200", "400", "404", "408", "413", "415", "429", "500", "503"] {
        assert!(responses.contains_key(status), "{status}");
    }
    assert!(responses["200"]["content"].get("text/event-stream").is_some());
    assert!(responses.get("401").is_none());
    references_resolve(&document, &document);

    config.api_keys = vec!["alpha".into()];
    let router = server(&engine, config).router();
    let request = Request::get("/openapi.json").header(header::AUTHORIZATION, "Bearer alpha");
    let document = send(&router, request.body(Body::empty()).unwrap()).await.ok();
    assert!(document["paths"][CHAT]["post"]["responses"].get("401").is_some());
    assert_eq!(document["paths"]["/health"]["get"]["security"], json!([]));
}

fn references_resolve(document: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            map.values().for_each(|value| references_resolve(document, value));
        }
        Value::Array(list) => list.iter().for_each(|value| references_resolve(document, value)),
        _ => {}
    }
}
