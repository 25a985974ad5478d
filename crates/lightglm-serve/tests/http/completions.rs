//! Completions that come in one piece.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::client::{CHAT, COMPLETIONS, chat, get, post, router};
use crate::scripted::Scripted;
use crate::toy_text::shown;

#[tokio::test]
async fn a_completion_has_openais_shape() {
    let engine = Scripted::saying("hello");
    let mut reply = post(&router(&engine), COMPLETIONS, json!({"prompt": "ab"})).await.ok();
    assert!(reply["id"].as_str().unwrap().starts_with("cmpl-"));
    for varying in ["id", "created"] {
        reply[varying] = json!(0);
    }
    let expected = json!({
        "id": 0, "object": "text_completion", "created": 0, "model": "toy",
        "choices": [{"index": 0, "text": "hello", "logprobs": null, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    });
    assert_eq!(reply, expected);
    assert_eq!(engine.one().params.max_tokens, 16);
}

#[tokio::test]
async fn prompts_come_in_four_forms() {
    let forms = [
        (json!("ab"), vec!["<256>ab"]),
        (json!(["ab", "c"]), vec!["<256>ab", "<256>c"]),
        (json!([97, 256]), vec!["a<256>"]),
        (json!([[97], [98, 99]]), vec!["a", "bc"]),
    ];
    for (prompt, expected) in forms {
        let engine = Scripted::saying("x");
        let body = json!({"prompt": prompt, "n": 2, "seed": 7, "best_of": 2, "echo": false});
        let reply = post(&router(&engine), COMPLETIONS, body).await.ok();
        assert_eq!(reply["choices"].as_array().unwrap().len(), expected.len() * 2);
        let seen = engine.seen();
        let prompts: Vec<_> = seen.iter().map(|seen| shown(&seen.prompt)).collect();
        let twice: Vec<_> = expected.iter().flat_map(|prompt| [*prompt; 2]).collect();
        assert_eq!(prompts, twice);
        let seeds: Vec<_> = seen.iter().map(|seen| seen.params.seed).collect();
        assert_eq!(seeds, [7, 8].repeat(expected.len()));
    }
}

#[tokio::test]
async fn log_probabilities_have_the_older_form() {
    let engine = Scripted::saying("hi");
    let body = json!({"prompt": "x", "logprobs": 2});
    let reply = post(&router(&engine), COMPLETIONS, body).await.ok();
    let logprobs = &reply["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["h", "i"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1]));
    assert_eq!(logprobs["token_logprobs"], json!([-9999.0, -9999.0]));
    assert_eq!(logprobs["top_logprobs"][0], json!({"a": 0.0, "b": -1.0}));
}

#[tokio::test]
async fn wrong_prompts_are_named() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let cases = [
        (json!([]), "invalid_value"),
        (json!(null), "invalid_value"),
        (json!(5), "invalid_value"),
        (json!([1, "a"]), "invalid_value"),
        (json!([-1]), "invalid_value"),
        (json!([4_000_000_000u32]), "invalid_value"),
        (json!([[]]), "invalid_value"),
        (json!("a".repeat(5000)), "context_length_exceeded"),
        (json!(vec!["a"; 100]), "invalid_value"),
    ];
    for (prompt, code) in cases {
        let error = post(&router, COMPLETIONS, json!({"prompt": prompt.clone()})).await.error();
        assert_eq!(error, (400, "prompt".into(), code.into()), "{prompt}");
    }
    let missing = post(&router, COMPLETIONS, json!({})).await.error();
    assert_eq!(missing, (400, "prompt".into(), "invalid_value".into()));
    for (field, value) in [("echo", json!(true)), ("best_of", json!(2)), ("suffix", json!("s"))] {
        let error = post(&router, COMPLETIONS, json!({"prompt": "a", field: value})).await.error();
        assert_eq!((error.0, error.1.as_str()), (400, field));
    }
    assert!(engine.seen().is_empty());
}

#[tokio::test]
async fn what_the_queue_can_never_take_is_the_fields_fault() {
    let engine = Scripted::saying("x");
    // Eight may wait.
    let error = post(&router(&engine), COMPLETIONS, json!({"prompt": vec!["a"; 9]})).await.error();
    assert_eq!(error, (400, "prompt".into(), "invalid_value".into()));
    post(&router(&engine), COMPLETIONS, json!({"prompt": vec!["a"; 8]})).await.ok();

    engine.max_open_per_key.store(3, Ordering::SeqCst);
    let router = router(&engine);
    let error = post(&router, CHAT, chat(json!({"n": 4}))).await.error();
    assert_eq!(error, (400, "n".into(), "invalid_value".into()));
    post(&router, CHAT, chat(json!({"n": 3}))).await.ok();
    let body = json!({"prompt": ["a", "b"], "n": 2});
    let error = post(&router, COMPLETIONS, body).await.error();
    assert_eq!(error, (400, "prompt".into(), "invalid_value".into()));
    let document = get(&router, "/openapi.json").await.ok();
    let fields = &document["components"]["schemas"]["ChatCompletionRequest"]["properties"];
    assert_eq!(fields["n"]["maximum"], 3);
}
