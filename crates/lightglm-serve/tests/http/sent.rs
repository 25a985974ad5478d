//! Requests as they are really sent: compressed, with a byte order mark, with halves of characters, to paths that
//! are nearly right.

use std::io::Write;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::client::{Answer, CHAT, chat, config, get, post, post_text, router, send, server};
use crate::scripted::Scripted;
use crate::toy_text::{bytes, shown};

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn encoded(router: &Router, encoding: &str, body: Vec<u8>) -> Answer {
    let request = Request::post(CHAT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, encoding);
    send(router, request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn gzip_is_read_within_the_limit() {
    let engine = Scripted::saying("x");
    let mut config = config();
    config.limits.body_bytes = 64 << 10;
    let router = server(&engine, config).router();
    let body = chat(json!({})).to_string().into_bytes();
    for encoding in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
        encoded(&router, encoding, gzipped(&body)).await.ok();
    }
    encoded(&router, "identity", body.clone()).await.ok();
    // Two members are one text.
    let (first, second) = body.split_at(10);
    encoded(&router, "gzip", [gzipped(first), gzipped(second)].concat()).await.ok();

    let bomb = gzipped(&vec![b' '; 32 << 20]);
    assert!(bomb.len() < 64 << 10);
    let too_large = (413, String::new(), "body_too_large".into());
    assert_eq!(encoded(&router, "gzip", bomb).await.error(), too_large);
    let half = gzipped(&body);
    for damaged in [&half[..half.len() / 2], &body[..], &[]] {
        let error = encoded(&router, "gzip", damaged.to_vec()).await.error();
        assert_eq!(error, (400, String::new(), "invalid_gzip".into()));
    }
    for other in ["br", "zstd", "deflate", "gzip, gzip", "gzip, br"] {
        let answer = encoded(&router, other, gzipped(&body)).await;
        let error = (415, String::new(), "unsupported_content_encoding".into());
        assert_eq!(answer.error(), error, "{other}");
        assert!(answer.text.contains(other), "{answer:?}");
        assert_eq!(answer.headers[header::ACCEPT_ENCODING], "gzip");
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_the_text() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    post_text(&router, CHAT, format!("\u{feff}{}", chat(json!({})))).await.ok();
    // One, in front.
    let error = post_text(&router, CHAT, format!("\u{feff}\u{feff}{}", chat(json!({})))).await;
    assert_eq!(error.error().2, "invalid_json");
}

#[tokio::test]
async fn halves_of_characters_are_replaced() {
    let cases: [(&[u8], &str); 5] = [
        (br"cut \ud83d", "cut \u{fffd}"),
        (br"\ude00\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (b"raw \xed\xa0\xbd", "raw \u{fffd}"),
        (br"\\ud83d", r"\ud83d"),
        (r"好\uDC00".as_bytes(), "好\u{fffd}"),
    ];
    for (text, expected) in cases {
        let engine = Scripted::saying("x");
        let body = [br#"{"messages": [{"role": "user", "content": ""#, text, br#""}]}"#].concat();
        post_text(&router(&engine), CHAT, body).await.ok();
        let prompt = shown(&engine.one().prompt);
        assert!(prompt.contains(&shown(&bytes(expected))), "{prompt:?}");
    }
    // What is no text at all is refused as before.
    let engine = Scripted::saying("x");
    let error = post_text(&router(&engine), CHAT, b"{\"a\": \"\xff\"}".to_vec()).await.error();
    assert_eq!(error.2, "invalid_json");
}

#[tokio::test]
async fn a_slash_at_the_end_is_harmless() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    post(&router, &format!("{CHAT}/"), chat(json!({}))).await.ok();
    for path in ["/v1/models/", "/v1/models/toy/", "/health/", "/ready/?a=b/", "/metrics/"] {
        assert_eq!(get(&router, path).await.status, 200, "{path}");
    }
    let wrong = get(&router, &format!("{CHAT}/")).await;
    assert_eq!(wrong.error(), (405, String::new(), "method_not_allowed".into()));
    // Counted under the path that it is.
    let counted = "lightglm_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1";
    assert!(get(&router, "/metrics").await.text.contains(counted));
}

#[tokio::test]
async fn paths_that_are_nearly_right_get_a_hint() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let cases = [
        ("/chat/completions", Some(CHAT)),
        ("/chat/completions/", Some(CHAT)),
        ("/v1/v1/chat/completions", Some(CHAT)),
        ("/openai/v1/chat/completions", Some(CHAT)),
        ("/completions", Some("/v1/completions")),
        ("/models", Some("/v1/models")),
        ("/v1", Some("/v1/models")),
        ("/nowhere", None),
    ];
    for (path, meant) in cases {
        let answer = post(&router, path, chat(json!({}))).await;
        assert_eq!(answer.error(), (404, String::new(), "not_found".into()), "{path}");
        let body: Value = answer.json();
        let message = body["error"]["message"].as_str().unwrap();
        match meant {
            Some(meant) => assert!(message.ends_with(&format!("{meant}.")), "{message}"),
            None => assert!(!message.contains("use"), "{message}"),
        }
    }
}
