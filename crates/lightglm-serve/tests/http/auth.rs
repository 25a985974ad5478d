//! API keys.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lightglm_serve::http::{Server, ServerConfigError};
use serde_json::json;

use crate::client::{CHAT, chat, config, get, router, send, server};
use crate::scripted::Scripted;
use crate::toy_text::ToyText;

#[tokio::test]
async fn every_route_but_the_probes_wants_a_key() {
    let engine = Scripted::saying("x");
    let mut config = config();
    config.api_keys = vec!["alpha".into(), "beta".into()];
    let router = server(&engine, config).router();
    let paths = [
        "/",
        "/v1/models",
        "/metrics",
        "/openapi.json",
        "/docs/",
        "/page/app.js",
        CHAT,
        "/nowhere",
        "/v1/models/toy",
        "/health//",
        "/ready/x",
    ];
    for path in paths {
        let answer = get(&router, path).await;
        assert_eq!(answer.error(), (401, String::new(), "missing_api_key".into()), "{path}");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
        assert!(answer.headers.contains_key("x-request-id"));
    }
    for path in ["/health", "/ready"] {
        assert_eq!(get(&router, path).await.status, StatusCode::OK, "{path}");
    }
    // A browser asks for a password where a page is opened.
    let open = Request::get("/").header(header::ACCEPT, "text/html,*/*").body(Body::empty());
    let answer = send(&router, open.unwrap()).await;
    let schemes = answer.headers.get_all(header::WWW_AUTHENTICATE).iter();
    assert!(schemes.into_iter().any(|scheme| scheme.to_str().unwrap().starts_with("Basic ")));
    let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    let cases = [
        ("Bearer alpha".to_owned(), 200),
        ("bearer beta".to_owned(), 200),
        (basic("anybody:beta"), 200),
        (basic("alpha:"), 401),
        (basic("alpha"), 401),
        ("Basic !!!".to_owned(), 401),
        ("Bearer alph".to_owned(), 401),
        ("Bearer alphaa".to_owned(), 401),
        ("Bearer ".to_owned(), 401),
        ("alpha".to_owned(), 401),
    ];
    for (value, status) in cases {
        let request = Request::get("/v1/models").header(header::AUTHORIZATION, &value);
        let answer = send(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{value}");
    }
}

/// The document names the routes, so that none that is added later can be forgotten here.
#[tokio::test]
async fn every_route_of_the_document_wants_a_key() {
    let engine = Scripted::saying("x");
    let mut config = config();
    let open = server(&engine, config.clone()).router();
    config.api_keys = vec!["alpha".into()];
    let closed = server(&engine, config).router();
    let document = get(&open, "/openapi.json").await.ok();
    let mut without = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let ask = || {
                let path = path.replace("{model}", "toy");
                let request = Request::builder().method(method.to_uppercase().as_str()).uri(path);
                request.body(Body::empty()).unwrap()
            };
            let answer = send(&closed, ask()).await;
            if answer.status == StatusCode::OK {
                without.insert(path.as_str());
                continue;
            }
            // In the shape of whoever's API the path belongs to.
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(answer.text.contains("No API key was given."), "{path}: {answer:?}");
            // It is there, and the key was the reason.
            let status = send(&open, ask()).await.status.as_u16();
            assert!(![401, 404, 405].contains(&status), "{method} {path}: {status}");
        }
    }
    assert_eq!(without, BTreeSet::from(["/health", "/ready"]));
}

#[tokio::test]
async fn a_key_is_who_shares() {
    let engine = Scripted::saying("x");
    let mut config = config();
    config.api_keys = vec!["alpha".into(), "beta".into()];
    let router = server(&engine, config).router();
    for key in ["alpha", "beta"] {
        let request = Request::post(CHAT)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json");
        let body = chat(json!({"user": "somebody else"})).to_string();
        let answer = send(&router, request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let keys: Vec<_> = engine.seen().into_iter().map(|seen| seen.key).collect();
    assert_eq!(keys, ["key:0", "key:1"]);
}

#[test]
fn empty_keys_and_bad_origins_are_refused() {
    let engine = Scripted::saying("x");
    let text = || std::sync::Arc::new(ToyText::new());
    let mut empty = config();
    empty.api_keys = vec!["a".into(), " ".into()];
    let error = Server::new(empty, engine.clone(), text()).err();
    assert_eq!(error, Some(ServerConfigError::EmptyKey { index: 1 }));
    let mut origins = config();
    for origin in ["example.com", "https://", "https://good.example/", "https://a/b", "https://a\n"]
    {
        origins.cors_origins = vec!["https://good.example".into(), origin.into()];
        let wrong = ServerConfigError::Origin { origin: origin.into() };
        assert_eq!(origins.check(), Err(wrong.clone()));
        assert_eq!(Server::new(origins.clone(), engine.clone(), text()).err(), Some(wrong));
    }
    origins.cors_origins = vec!["*".into(), "http://127.0.0.1:3000".into()];
    assert_eq!(origins.check(), Ok(()));
    origins.allowed_hosts = vec!["good.example".into(), "http://a".into()];
    assert_eq!(origins.check(), Err(ServerConfigError::Host { host: "http://a".into() }));
}

#[tokio::test]
async fn cors_is_off_unless_origins_are_named() {
    let engine = Scripted::saying("x");
    let preflight = || {
        Request::builder()
            .method("OPTIONS")
            .uri(CHAT)
            .header(header::ORIGIN, "https://good.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,x-stainless-os")
            .body(Body::empty())
            .unwrap()
    };
    let closed = send(&router(&engine), preflight()).await;
    assert_eq!(closed.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(!closed.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));

    let mut config = config();
    config.cors_origins = vec!["https://good.example".into()];
    config.api_keys = vec!["alpha".into()];
    let router = server(&engine, config).router();
    let open = send(&router, preflight()).await;
    assert_eq!(open.status, StatusCode::OK);
    assert_eq!(open.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://good.example");
    let headers = &open.headers[header::ACCESS_CONTROL_ALLOW_HEADERS];
    assert_eq!(headers, "authorization,x-stainless-os");
    assert_eq!(open.headers[header::ACCESS_CONTROL_MAX_AGE], "7200");
    let request = Request::get("/health").header(header::ORIGIN, "https://bad.example");
    let other = send(&router, request.body(Body::empty()).unwrap()).await;
    assert!(!other.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[test]
fn keys_are_not_printed() {
    let mut config = config();
    config.api_keys = vec!["alpha".into()];
    assert!(!format!("{config:?}").contains("alpha"));
}
