//! Metrics by key and model, of the process, and in both formats; the dashboard that reads them.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use axum::http::{Request, header};
use lightglm_serve::http::{KeyDigest, Tenant, Tenants};
use serde_json::{Value, json};

use crate::client::{COMPLETIONS, config, get, post, router, send, server};
use crate::scripted::Scripted;

#[tokio::test]
async fn keys_and_models_are_counted_by_name() {
    let engine = Scripted::saying("hello");
    let mut config = config();
    config.api_keys = vec!["plain".into()];
    config.tenants = Tenants::new(vec![Tenant::new("客服", KeyDigest::of("own"))]).unwrap();
    let router = server(&engine, config).router();
    for (key, model) in
        [("own", "toy"), ("own", "tuned"), ("own", "made-up"), ("plain", "toy"), ("x", "y")]
    {
        let body = json!({"prompt": "four", "model": model, "n": 2}).to_string();
        let request = Request::post(COMPLETIONS)
            .header("x-api-key", key)
            .header(header::CONTENT_TYPE, "application/json");
        send(&router, request.body(Body::from(body)).unwrap()).await;
    }
    let request = Request::get("/metrics").header("x-api-key", "plain").body(Body::empty());
    let text = send(&router, request.unwrap()).await.ok_text().to_owned();
    let expected = [
        "lightglm_key_requests_total{key=\"客服\",model=\"toy\",status=\"200\"} 1",
        "lightglm_key_requests_total{key=\"客服\",model=\"tuned\",status=\"200\"} 1",
        "lightglm_key_requests_total{key=\"客服\",model=\"\",status=\"404\"} 1",
        "lightglm_key_requests_total{key=\"api-key-0\",model=\"toy\",status=\"200\"} 1",
        "lightglm_key_requests_total{key=\"\",model=\"\",status=\"401\"} 1",
        "lightglm_key_completion_tokens_total{key=\"客服\",model=\"toy\"} 12",
        "lightglm_key_completion_tokens_total{key=\"api-key-0\",model=\"toy\"} 12",
    ];
    for line in expected {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert!(!text.contains("made-up"), "a client's word is no label");
    // The prompt counts once, what the cache held of it among it.
    let value = |name: &str| {
        let start = format!("lightglm_key_{name}_tokens_total{{key=\"客服\",model=\"toy\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok()).unwrap()
    };
    assert_eq!((value("prompt"), value("cached")), (value("prompt"), value("prompt") / 2));
    assert!((4..12).contains(&value("prompt")));
}

#[tokio::test]
async fn the_process_and_the_build_are_there_in_both_formats() {
    let router = router(&Scripted::saying("x"));
    let ask = async |accept: &str| {
        let request = Request::get("/metrics").header(header::ACCEPT, accept).body(Body::empty());
        send(&router, request.unwrap()).await
    };
    let open = ask("application/openmetrics-text").await;
    let plain = ask("text/plain").await;
    let version = env!("CARGO_PKG_VERSION");
    for (answer, kind) in
        [(&open, "application/openmetrics-text; "), (&plain, "text/plain; version=0.0.4")]
    {
        assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(kind));
        let build = format!("lightglm_build_info{{version=\"{version}\"}} 1\n");
        assert!(answer.ok_text().contains(&build), "{}", answer.text);
        assert!(answer.text.contains("lightglm_connections 0\n"), "{}", answer.text);
    }
    assert!(
        open.text.ends_with("# EOF\n") && open.text.contains("# TYPE lightglm_steps counter\n")
    );
    assert!(
        !plain.text.contains("EOF") && plain.text.contains("# TYPE lightglm_steps_total counter\n")
    );
    #[cfg(target_os = "linux")]
    for name in ["resident_memory_bytes", "open_fds", "start_time_seconds", "cpu_seconds_total"] {
        let line = format!("\nprocess_{name} ");
        assert!(plain.text.contains(&line) && open.text.contains(&line), "{line}{}", plain.text);
    }
    // The longest that a request may take is within the buckets.
    for name in ["time_to_first_token", "inter_token_latency", "queue_wait", "request_latency"] {
        let start = format!("lightglm_{name}_seconds_bucket{{le=\"");
        let bounds = plain.text.lines().filter_map(|line| line.strip_prefix(&start));
        let bounds = bounds.filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok());
        let last = bounds.filter(|bound| bound.is_finite()).fold(0.0, f64::max);
        assert!(last >= 600.0, "{name}: {last}");
    }
}

/// Every series that the dashboard asks for is one that a server has.
#[tokio::test]
async fn the_dashboard_asks_for_what_there_is() {
    let router = router(&Scripted::saying("x"));
    post(&router, COMPLETIONS, json!({"prompt": "x"})).await.ok();
    post(&router, COMPLETIONS, json!({"prompt": "x", "model": "none"})).await;
    let text = get(&router, "/metrics").await.ok_text().to_owned();
    let there: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .chain(["lightglm_rejections_total"]) // Nobody was refused yet.
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/grafana.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut expressions = Vec::new();
    collect(&dashboard, &mut expressions);
    assert!(expressions.len() > 10);
    let name = regex::Regex::new(r"\b(?:lightglm|process)_[a-z_]+").unwrap();
    for expression in expressions {
        let names: Vec<_> = name.find_iter(&expression).map(|found| found.as_str()).collect();
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            #[cfg(not(target_os = "linux"))]
            if name.starts_with("process_") {
                continue;
            }
            assert!(there.contains(name), "{name} in {expression}");
        }
    }
}

fn collect(value: &Value, expressions: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            expressions.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, expressions));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, expressions)),
        _ => {}
    }
}
