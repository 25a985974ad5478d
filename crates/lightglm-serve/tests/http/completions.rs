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
    for (field, value) in [("max_tokens", json!(0)), ("best_of", json!(2)), ("suffix", json!("s"))]
    {
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

/// As lm-evaluation-harness asks: the prompt's own tokens, and one more.
#[tokio::test]
async fn a_prompt_is_repeated_with_its_probabilities() {
    let engine = Scripted::saying("hey");
    let router = router(&engine);
    let body =
        json!({"prompt": [[97, 98, 99], [120]], "echo": true, "logprobs": 1, "max_tokens": 1});
    let reply = post(&router, COMPLETIONS, body.clone()).await.ok();
    let first = &reply["choices"][0];
    assert_eq!(first["text"], "abch");
    let expected = json!({
        "tokens": ["a", "b", "c", "h"],
        "token_logprobs": [null, -1.0, -2.0, -9999.0],
        "top_logprobs": [null, {"a": 0.0}, {"a": 0.0}, {"a": 0.0}],
        "text_offset": [0, 1, 2, 3],
    });
    assert_eq!(first["logprobs"], expected);
    assert_eq!(reply["choices"][1]["text"], "xh");
    assert_eq!(reply["choices"][1]["logprobs"]["token_logprobs"], json!([null, -9999.0]));
    assert_eq!(first["finish_reason"], "length");

    // In a stream the same.
    let mut streamed = body;
    (streamed["stream"], streamed["prompt"]) = (true.into(), json!([97, 98, 99]));
    let (mut text, mut tokens, mut offsets) = (String::new(), Vec::new(), Vec::new());
    for event in post(&router, COMPLETIONS, streamed).await.events() {
        let choice = &event["choices"][0];
        text += choice["text"].as_str().unwrap();
        tokens.extend(choice["logprobs"]["tokens"].as_array().into_iter().flatten().cloned());
        offsets.extend(choice["logprobs"]["text_offset"].as_array().into_iter().flatten().cloned());
    }
    assert_eq!((text.as_str(), json!(tokens)), ("abch", expected["tokens"].clone()));
    assert_eq!(json!(offsets), expected["text_offset"]);

    // The prompt alone; without probabilities; every choice of a prompt.
    for max in ["max_tokens", "max_completion_tokens"] {
        let body = json!({"prompt": "ab", "echo": true, "logprobs": 0, max: 0});
        let reply = post(&router, COMPLETIONS, body).await.ok();
        let choice = &reply["choices"][0];
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("ab"), &json!("length")));
        assert_eq!(choice["logprobs"]["token_logprobs"], json!([null, -1.0, -2.0]));
        assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), 3);
        assert_eq!(reply["usage"]["completion_tokens"], 0);
    }
    let body = json!({"prompt": ["ab", "c"], "echo": true, "n": 2});
    let reply = post(&router, COMPLETIONS, body).await.ok();
    let texts: Vec<_> = reply["choices"].as_array().unwrap().iter().map(|it| &it["text"]).collect();
    assert_eq!(texts, ["abhey", "abhey", "chey", "chey"]);
    assert_eq!(reply["choices"][0]["logprobs"], json!(null));
    // Tokens that nobody has are the prompt's fault.
    let body = json!({"prompt": [97, 100_000], "echo": true});
    assert_eq!(post(&router, COMPLETIONS, body).await.error().1, "prompt");
}
