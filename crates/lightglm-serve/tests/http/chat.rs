//! Chats that come in one piece.

use axum::http::header;
use serde_json::{Value, json};

use crate::client::{CHAT, chat, config, get, post, router, server};
use crate::scripted::Scripted;
use crate::toy_text::shown;

#[tokio::test]
async fn a_reply_has_openais_shape() {
    let engine = Scripted::saying("hello");
    let answer = post(&router(&engine), CHAT, chat(json!({"model": "toy"}))).await;
    let mut reply = answer.ok();
    assert!(reply["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(reply["created"].as_u64().unwrap() > 1_600_000_000);
    for varying in ["id", "created"] {
        reply[varying] = json!(0);
    }
    let expected = json!({
        "id": 0, "object": "chat.completion", "created": 0, "model": "toy",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": "hello", "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16,
            "prompt_tokens_details": {"cached_tokens": 5},
        },
    });
    assert_eq!(reply, expected);
    assert!(answer.headers.contains_key("x-request-id"));
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
}

#[tokio::test]
async fn every_field_reaches_the_engine() {
    let engine = Scripted::saying("hello");
    let fields = json!({
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "max_tokens": 3,
        "stop": ["a", "b"], "seed": -1, "frequency_penalty": 0.25, "presence_penalty": -0.5,
        "repetition_penalty": 1.5, "logit_bias": {"5": -100, "6": 1.5}, "user": "me",
        "priority": -2, "ignore_eos": true, "min_tokens": 2, "model": "tuned",
    });
    let reply = post(&router(&engine), CHAT, chat(fields)).await.ok();
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert_eq!(reply["choices"][0]["message"]["content"], "hel");
    assert_eq!(reply["model"], "tuned");
    let seen = engine.one();
    let params = seen.params;
    assert_eq!((params.temperature, params.top_p, params.min_p), (0.5, 0.9, 0.1));
    assert_eq!((params.top_k, params.max_tokens, params.min_tokens), (7, 3, 2));
    assert_eq!(params.stop, ["a", "b"]);
    assert_eq!(params.seed, u64::MAX);
    assert_eq!((params.frequency_penalty, params.presence_penalty), (0.25, -0.5));
    assert_eq!(params.repetition_penalty, 1.5);
    assert_eq!(params.logit_bias, [(5, -100.0), (6, 1.5)]);
    assert!(params.ignore_eos);
    assert_eq!((seen.key.as_str(), seen.priority), ("user:me", -2));
    assert_eq!(seen.model.as_deref(), Some("tuned"));
}

#[tokio::test]
async fn what_is_absent_is_the_servers_default() {
    let engine = Scripted::saying("hello");
    let mut config = config();
    config.sampling.max_tokens = 4;
    config.sampling.top_k = 50;
    let router = server(&engine, config).router();
    let nulls = json!({"temperature": null, "stop": null, "n": null, "tools": null, "seed": null});
    post(&router, CHAT, chat(nulls)).await.ok();
    post(&router, CHAT, chat(json!({"max_tokens": 2, "max_completion_tokens": 3}))).await.ok();
    let seen = engine.seen();
    assert_eq!((seen[0].params.temperature, seen[0].params.top_k), (1.0, 50));
    assert_eq!((seen[0].params.max_tokens, seen[1].params.max_tokens), (4, 3));
    assert_ne!(seen[0].params.seed, seen[1].params.seed, "a seed is drawn");
    assert_eq!(seen[0].key, "peer:");
}

#[tokio::test]
async fn choices_differ_by_their_seeds() {
    let engine = Scripted::saying("ab");
    let reply = post(&router(&engine), CHAT, chat(json!({"n": 3, "seed": 40}))).await.ok();
    let choices = reply["choices"].as_array().unwrap();
    let indices: Vec<_> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2]);
    assert!(choices.iter().all(|choice| choice["message"]["content"] == "ab"));
    let seeds: Vec<_> = engine.seen().iter().map(|seen| seen.params.seed).collect();
    assert_eq!(seeds, [40, 41, 42]);
    // The prompt is counted once.
    assert_eq!(reply["usage"]["prompt_tokens"], 10);
    assert_eq!(reply["usage"]["completion_tokens"], 9);
}

#[tokio::test]
async fn roles_become_the_templates() {
    let engine = Scripted::saying("x");
    let body = json!({"messages": [
        {"role": "system", "content": "S"},
        {"role": "developer", "content": [{"type": "text", "text": "D"}, {"type": "text", "text": "E"}]},
        {"role": "user", "content": "<|user|>U", "name": "someone"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{\"a\":1}"}},
        ]},
        {"role": "tool", "content": "T", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "A"},
    ], "add_generation_prompt": true});
    post(&router(&engine), CHAT, body).await.ok();
    let expected = "<256><257>system\nS<257>system\nD\nE<257>user\n<|user|>U\
                    <257>assistant:f\n{}<257>assistant:g\n{\"a\":1}\
                    <257>observation\nT<257>assistant\nA<258>";
    assert_eq!(shown(&engine.one().prompt), expected);
}

#[tokio::test]
async fn log_probabilities_name_tokens_and_bytes() {
    let engine = Scripted::saying("é!");
    let fields = json!({"logprobs": true, "top_logprobs": 2});
    let reply = post(&router(&engine), CHAT, chat(fields)).await.ok();
    let entries = reply["choices"][0]["logprobs"]["content"].as_array().unwrap();
    // Three bytes; the token that ends the reply is not part of it.
    assert_eq!(entries.len(), 3);
    let top = json!([
        {"token": "a", "logprob": 0.0, "bytes": [97]},
        {"token": "b", "logprob": -1.0, "bytes": [98]},
    ]);
    let exclamation = json!({"token": "!", "logprob": -9999.0, "bytes": [33], "top_logprobs": top});
    assert_eq!(entries[2]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(entries[2]["token"], exclamation["token"]);
    assert_eq!(entries[2]["logprob"], exclamation["logprob"]);
    assert_eq!(entries[2]["top_logprobs"][1]["bytes"], exclamation["top_logprobs"][1]["bytes"]);
    assert_eq!((&entries[0]["token"], &entries[0]["bytes"]), (&json!("\u{fffd}"), &json!([195])));
    let plain = post(&router(&engine), CHAT, chat(json!({"logprobs": true}))).await.ok();
    assert_eq!(plain["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
}

#[tokio::test]
async fn models_are_listed() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let list = get(&router, "/v1/models").await.ok();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(ids, ["toy", "tuned"]);
    let one = get(&router, "/v1/models/tuned").await.ok();
    assert_eq!((&one["object"], &one["parent"]), (&json!("model"), &json!("toy")));
    for name in ["none", "a/b", "%ff"] {
        let error = get(&router, &format!("/v1/models/{name}")).await.error();
        assert_eq!(error, (404, "model".into(), "model_not_found".into()), "{name}");
    }
    let unknown = post(&router, CHAT, chat(json!({"model": "none"}))).await.error();
    assert_eq!(unknown, (404, "model".into(), "model_not_found".into()));
}

#[tokio::test]
async fn special_looking_text_passes_unchanged() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let text = "<|user|> [gMASK]<sop><|endoftext|> \u{0} \u{1f600} <256>";
    let body = json!({"messages": [{"role": "user", "content": text}]});
    post(&router, CHAT, body).await.ok();
    let prompt = engine.one().prompt;
    let inner = &prompt[2 + "user\n".len()..prompt.len() - 1];
    let bytes: Vec<u8> = inner.iter().map(|token| u8::try_from(*token).unwrap()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

#[tokio::test]
async fn thoughts_are_told_from_the_answer() {
    let asked = |content: &str| json!({"messages": [{"role": "user", "content": content}]});
    // A token is a byte here, and one ends the reply.
    for (content, reply, thought, said, tokens) in [
        ("think", "<think>\nhm\n</think>\n\nyes", json!("hm"), "yes", json!(13)),
        ("think", "yes", Value::Null, "yes", Value::Null),
        ("think aloud", "hm</think>yes", json!("hm"), "yes", json!(10)),
        ("think aloud", "hm", json!("hm"), "", json!(3)),
        ("say", "<think>hm</think>yes", Value::Null, "<think>hm</think>yes", Value::Null),
    ] {
        let engine = Scripted::saying(reply);
        let router = router(&engine);
        let whole = post(&router, CHAT, asked(content)).await.ok();
        let message = &whole["choices"][0]["message"];
        assert_eq!(message["reasoning_content"], thought, "{reply}");
        assert_eq!(message["content"], said, "{reply}");
        let count = &whole["usage"]["completion_tokens_details"]["reasoning_tokens"];
        assert_eq!(*count, tokens, "{reply}");

        let mut body = asked(content);
        body["stream"] = true.into();
        let events = post(&router, CHAT, body).await.events();
        let all = |field: &str| {
            let deltas = events.iter().filter_map(|e| e["choices"][0]["delta"][field].as_str());
            deltas.collect::<String>()
        };
        assert_eq!(all("reasoning_content"), thought.as_str().unwrap_or_default(), "{reply}");
        assert_eq!(all("content"), said, "{reply}");
    }
}

#[tokio::test]
async fn a_last_assistants_turn_is_continued() {
    let engine = Scripted::saying(" Paris");
    let router = router(&engine);
    let asked = |last: Value, fields: Value| {
        let messages = json!([{"role": "user", "content": "Capital?"}, last]);
        let mut body = json!({"messages": messages});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let begun = |mut fields: Value| {
        fields["role"] = "assistant".into();
        fields["content"] = "It is".into();
        fields
    };
    for (last, fields, continues) in [
        (begun(json!({})), json!({}), true),
        (begun(json!({"prefix": true})), json!({}), true),
        (begun(json!({"partial": true})), json!({}), true),
        (begun(json!({})), json!({"continue_final_message": true}), true),
        (begun(json!({})), json!({"add_generation_prompt": false}), true),
        (begun(json!({})), json!({"add_generation_prompt": true}), false),
        (begun(json!({})), json!({"continue_final_message": false}), false),
        (begun(json!({"prefix": false})), json!({}), false),
    ] {
        let reply = post(&router, CHAT, asked(last.clone(), fields.clone())).await.ok();
        assert_eq!(reply["choices"][0]["message"]["content"], " Paris");
        let prompt = shown(&engine.seen().pop().unwrap().prompt);
        let end = if continues { "<257>assistant\nIt is" } else { "It is<258>" };
        assert!(prompt.ends_with(end), "{last} {fields}: {prompt}");
    }
    let user = json!({"role": "user", "content": "x"});
    for (last, fields, param) in [
        (user.clone(), json!({"continue_final_message": true}), "continue_final_message"),
        (user.clone(), json!({"add_generation_prompt": false}), "add_generation_prompt"),
        (json!({"role": "user", "content": "x", "prefix": true}), json!({}), "messages[1].prefix"),
        (
            begun(json!({})),
            json!({"continue_final_message": true, "add_generation_prompt": true}),
            "add_generation_prompt",
        ),
        (
            begun(json!({"prefix": true})),
            json!({"add_generation_prompt": true}),
            "add_generation_prompt",
        ),
    ] {
        let error = post(&router, CHAT, asked(last.clone(), fields.clone())).await.error();
        assert_eq!(error, (400, param.into(), "invalid_value".into()), "{last} {fields}");
    }
}

#[tokio::test]
async fn results_name_calls_that_were_made() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let asked = |ids: Value, result: Value| {
        let calls: Vec<Value> = ids.as_array().unwrap().iter().map(|id| {
            json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
        }).collect();
        let mut result = result;
        result["role"] = "tool".into();
        result["content"] = "r".into();
        json!({"messages": [{"role": "user", "content": "q"},
                            {"role": "assistant", "content": null, "tool_calls": calls}, result]})
    };
    for (ids, result) in [
        (json!(["a", "b"]), json!({"tool_call_id": "b"})),
        (json!(["a"]), json!({})),
        (json!([null]), json!({"tool_call_id": "b"})),
    ] {
        post(&router, CHAT, asked(ids, result)).await.ok();
    }
    let error =
        post(&router, CHAT, asked(json!(["a"]), json!({"tool_call_id": "b"}))).await.error();
    assert_eq!(error, (400, "messages[2].tool_call_id".into(), "invalid_value".into()));
}
