//! `/answer`, `/tokenize`, `/detokenize`, `/v1/embeddings`.

use serde_json::json;

use crate::client::{get, post, router};
use crate::scripted::Scripted;
use crate::toy_text::{bytes, shown};

#[tokio::test]
async fn a_question_is_answered_from_its_context() {
    let engine = Scripted::saying("Paris");
    let router = router(&engine);
    let body = json!({"question": "Where?", "context": "It is in Paris."});
    let reply = post(&router, "/answer", body).await.ok();
    assert_eq!(reply["answer"], "Paris");
    assert_eq!(reply["finish_reason"], "stop");
    assert_eq!(reply["usage"]["completion_tokens"], 6);
    let prompt = "<256><257>user\nIt is in Paris.\n\nAnswer from the text above. Where?<258>";
    assert_eq!(shown(&engine.one().prompt), prompt);

    post(&router, "/answer", json!({"question": "Where?", "context": null, "max_tokens": 2}))
        .await
        .ok();
    let seen = engine.seen();
    assert_eq!(shown(&seen[1].prompt), "<256><257>user\nWhere?<258>");
    assert_eq!(seen[1].params.max_tokens, 2);
}

#[tokio::test]
async fn an_answer_can_be_streamed() {
    let engine = Scripted::saying("Paris");
    let body = json!({"question": "Where?", "stream": true});
    let events = post(&router(&engine), "/answer", body).await.events();
    let text: String = events.iter().map(|event| event["answer"].as_str().unwrap()).collect();
    assert_eq!(text, "Paris");
    let last = events.last().unwrap();
    assert_eq!(
        (&last["finish_reason"], &last["usage"]["prompt_tokens"]),
        (&json!("stop"), &json!(14))
    );
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let cases = [
        (json!({}), "question"),
        (json!({"question": ""}), "question"),
        (json!({"question": 5}), "question"),
        (json!({"question": "refuse"}), "question"),
        (json!({"question": "q", "context": ["c"]}), "context"),
        (json!({"question": "q", "n": 2}), "n"),
        (json!({"question": "q", "temperature": -1}), "temperature"),
        (json!({"question": "q".repeat(5000)}), "question"),
    ];
    for (body, param) in cases {
        let error = post(&router, "/answer", body).await.error();
        assert_eq!((error.0, error.1.as_str()), (400, param));
    }
    assert!(engine.seen().is_empty());
}

#[tokio::test]
async fn texts_become_tokens_and_texts_again() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let reply = post(&router, "/tokenize", json!({"text": "hé"})).await.ok();
    assert_eq!(reply["tokens"], json!([256, 104, 195, 169]));
    assert_eq!((&reply["count"], &reply["max_model_len"]), (&json!(4), &json!(4096)));
    let plain = json!({"text": "hé", "add_special_tokens": false});
    assert_eq!(post(&router, "/tokenize", plain).await.ok()["tokens"], json!([104, 195, 169]));
    let chat = json!({"messages": [{"role": "user", "content": "x"}]});
    let tokens = [vec![256, 257], bytes("user\nx"), vec![258]].concat();
    assert_eq!(post(&router, "/tokenize", chat).await.ok()["tokens"], json!(tokens));
    let reply = post(&router, "/detokenize", json!({"tokens": [256, 104, 195, 169]})).await.ok();
    assert_eq!(reply["text"], "hé");
    // Half a character is replaced.
    let reply = post(&router, "/detokenize", json!({"tokens": [104, 195]})).await.ok();
    assert_eq!(reply["text"], "h\u{fffd}");
    // Long texts go another way to the same end.
    let long = "long ".repeat(20_000);
    let reply = post(&router, "/tokenize", json!({"text": long})).await.ok();
    assert_eq!(reply["count"], 100_001);
}

#[tokio::test]
async fn wrong_texts_and_tokens_are_named() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let cases = [
        ("/tokenize", json!({}), "text"),
        ("/tokenize", json!({"text": 5}), "text"),
        ("/tokenize", json!({"text": "a", "messages": []}), "messages"),
        ("/tokenize", json!({"messages": []}), "messages"),
        ("/detokenize", json!({}), "tokens"),
        ("/detokenize", json!({"tokens": [1, 260]}), "tokens[1]"),
        ("/detokenize", json!({"tokens": [-1]}), "tokens[0]"),
        ("/detokenize", json!({"tokens": "a"}), "tokens"),
    ];
    for (path, body, param) in cases {
        let error = post(&router, path, body).await.error();
        assert_eq!((error.0, error.1.as_str()), (400, param));
    }
}

#[tokio::test]
async fn without_an_encoder_there_are_no_embeddings() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let error = post(&router, "/v1/embeddings", json!({"input": "a"})).await.error();
    assert_eq!(error, (501, String::new(), "unsupported".into()));
    // Whatever the body is.
    let answer = post(&router, "/v1/rerank", json!([])).await;
    assert_eq!(answer.error(), (501, String::new(), "unsupported".into()));
    assert!(answer.text.contains("--embedding-model"), "{}", answer.text);
    assert_eq!(get(&router, "/v1/embeddings").await.error().0, 405);
}

/// Small models go round in circles of their likeliest tokens; an answer does not, unless somebody asks for it.
#[tokio::test]
async fn an_answer_is_kept_from_circles() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    post(&router, "/answer", json!({"question": "Where?"})).await.ok();
    let off = json!({"question": "Where?", "dry_multiplier": 0, "loop_tokens": 0});
    post(&router, "/answer", off).await.ok();
    post(&router, crate::client::CHAT, crate::client::chat(json!({}))).await.ok();
    let seen: Vec<_> = engine.seen().into_iter().map(|seen| seen.params).collect();
    let guards = seen.iter().map(|it| (it.dry_multiplier, it.dry_allowed_length, it.loop_tokens));
    assert_eq!(guards.collect::<Vec<_>>(), [(0.8, 16, 24), (0.0, 16, 0), (0.0, 2, 0)]);
}
