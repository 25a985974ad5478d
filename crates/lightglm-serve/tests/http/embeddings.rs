//! `/v1/embeddings` and `/v1/rerank`, against encoders that count letters.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lightglm_serve::http::{
    EmbedderError, EmbedderLimits, KeyDigest, ServerConfig, Tenant, Tenants, TextEmbedder,
    TextReranker,
};
use lightglm_text::EncoderInput;
use serde_json::{Value, json};

use crate::client::{CHAT, config, get, post, send, server};
use crate::scripted::Scripted;

const EMBEDDINGS: &str = "/v1/embeddings";
const RERANK: &str = "/v1/rerank";

/// Tokens of the longest text, the one in front and the one behind it included.
const MOST: usize = 12;

/// A vector is how often the letters a, b and c stand in a text, and 1.
#[derive(Default)]
struct Letters {
    /// The lengths of the inputs of each call.
    calls: Mutex<Vec<Vec<usize>>>,
    fails: bool,
}

fn limits() -> EmbedderLimits {
    EmbedderLimits { dimensions: 4, max_tokens: MOST, vocab_size: 300 }
}

/// Bytes between 256 and 257.
fn encoded(text: &str, most: usize) -> Result<EncoderInput, EmbedderError> {
    if text == "refuse" {
        return Err(EmbedderError { reason: "as asked".into() });
    }
    let most = most.min(MOST);
    let mut ids: Vec<u32> = text.bytes().map(u32::from).collect();
    let whole_len = ids.len() + 2;
    ids.truncate(most.saturating_sub(2));
    ids.insert(0, 256);
    ids.push(257);
    Ok(EncoderInput { whole_len, ..EncoderInput::of_ids(ids) })
}

fn count(input: &EncoderInput, letter: u8) -> f32 {
    input.ids.iter().filter(|id| **id == u32::from(letter)).count() as f32
}

impl TextEmbedder for Letters {
    fn limits(&self) -> EmbedderLimits {
        limits()
    }

    fn encode(&self, text: &str, max_tokens: usize) -> Result<EncoderInput, EmbedderError> {
        encoded(text, max_tokens)
    }

    fn embed(&self, inputs: &[EncoderInput]) -> Result<Vec<Vec<f32>>, EmbedderError> {
        self.calls.lock().unwrap().push(inputs.iter().map(|input| input.ids.len()).collect());
        if self.fails {
            return Err(EmbedderError { reason: "a secret of the machine".into() });
        }
        let vector = |input: &EncoderInput| {
            let mut vector: Vec<f32> = b"abc".map(|letter| count(input, letter)).to_vec();
            vector.push(1.0);
            vector
        };
        Ok(inputs.iter().map(vector).collect())
    }
}

/// A score is how often the letter a stands in query and document.
struct Scores;

impl TextReranker for Scores {
    fn limits(&self) -> EmbedderLimits {
        limits()
    }

    fn encode(&self, query: &str, document: &str) -> Result<EncoderInput, EmbedderError> {
        encoded(&format!("{query}|{document}"), MOST)
    }

    fn score(&self, inputs: &[EncoderInput]) -> Result<Vec<f32>, EmbedderError> {
        Ok(inputs.iter().map(|input| count(input, b'a')).collect())
    }
}

fn router_of(config: ServerConfig) -> Router {
    let server = server(&Scripted::saying("x"), config);
    server.with_embedder("letters", Arc::new(Letters::default())).router()
}

fn router() -> Router {
    router_of(config())
}

fn vectors(answer: &Value) -> Vec<Vec<f64>> {
    let of = |item: &Value| serde_json::from_value(item["embedding"].clone()).unwrap();
    answer["data"].as_array().unwrap().iter().map(of).collect()
}

#[tokio::test]
async fn every_shape_of_input_is_embedded() {
    let router = router();
    for (input, wanted, tokens) in [
        (json!("abba"), vec![vec![2.0, 2.0, 0.0, 1.0]], 6),
        (
            json!(["a", "", "cc"]),
            vec![vec![1.0, 0.0, 0.0, 1.0], vec![0.0, 0.0, 0.0, 1.0], vec![0.0, 0.0, 2.0, 1.0]],
            9,
        ),
        (json!([97, 98, 98]), vec![vec![1.0, 2.0, 0.0, 1.0]], 3),
        (json!([[97], [99, 99]]), vec![vec![1.0, 0.0, 0.0, 1.0], vec![0.0, 0.0, 2.0, 1.0]], 3),
        (json!(["a", [98]]), vec![vec![1.0, 0.0, 0.0, 1.0], vec![0.0, 1.0, 0.0, 1.0]], 4),
        (json!("好a"), vec![vec![1.0, 0.0, 0.0, 1.0]], 6),
    ] {
        let answer = post(&router, EMBEDDINGS, json!({"input": input, "user": "me"})).await.ok();
        assert_eq!(vectors(&answer), wanted, "{input}");
        assert_eq!(answer["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("letters")));
        for (index, item) in answer["data"].as_array().unwrap().iter().enumerate() {
            assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(index)));
        }
    }
    let body =
        json!({"model": "letters", "input": "abba", "encoding_format": "base64", "dimensions": 4});
    let answer = post(&router, EMBEDDINGS, body).await.ok();
    let bytes = BASE64_STANDARD.decode(answer["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let floats: Vec<f32> =
        bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(floats, [2.0, 2.0, 0.0, 1.0]);
    let metrics = get(&router, "/metrics").await.text;
    assert!(metrics.contains("lightglm_encoder_tokens_total 37"), "{metrics}");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let mut config = config();
    (config.limits.encoder_inputs, config.limits.encoder_tokens) = (4, 20);
    let router = router_of(config);
    let long = "x".repeat(MOST - 1);
    for (body, param, code) in [
        (json!({}), "input", "invalid_value"),
        (json!({"input": null}), "input", "invalid_value"),
        (json!({"input": 7}), "input", "invalid_value"),
        (json!({"input": {"text": "a"}}), "input", "invalid_value"),
        (json!({"input": []}), "input", "invalid_value"),
        (json!({"input": [[]]}), "input[0]", "invalid_value"),
        (json!({"input": ["a", null]}), "input[1]", "invalid_value"),
        (json!({"input": ["a", {"text": "b"}]}), "input[1]", "invalid_value"),
        (json!({"input": [1, -1]}), "input[1]", "invalid_value"),
        (json!({"input": [1, 1.5]}), "input[1]", "invalid_value"),
        (json!({"input": [1, "a"]}), "input[1]", "invalid_value"),
        (json!({"input": [1, 300]}), "input[1]", "invalid_value"),
        (json!({"input": [[1], [1, 1_u64 << 40]]}), "input[1][1]", "invalid_value"),
        (json!({"input": ["a", "refuse"]}), "input[1]", "invalid_value"),
        (json!({"input": ["a", "a", "a", "a", "a"]}), "input", "invalid_value"),
        (json!({"input": ["aaaaaaaa", "aaaaaaaa", "a"]}), "input", "invalid_value"),
        (json!({"input": long}), "input", "context_length_exceeded"),
        (json!({"input": ["a", long]}), "input[1]", "context_length_exceeded"),
        (json!({"input": vec![1; MOST + 1]}), "input", "context_length_exceeded"),
        (json!({"input": "a", "encoding_format": "int8"}), "encoding_format", "invalid_value"),
        (json!({"input": "a", "encoding_format": 1}), "encoding_format", "invalid_value"),
        (json!({"input": "a", "dimensions": 2}), "dimensions", "invalid_value"),
        (json!({"input": "a", "dimensions": "4"}), "dimensions", "invalid_value"),
        (json!({"input": "a", "model": "toy"}), "model", "invalid_value"),
        (json!({"input": "a", "model": 4}), "model", "invalid_value"),
        (json!({"input": "a", "user": 4}), "user", "invalid_value"),
        (json!({"input": "a", "truncate": "LEFT"}), "truncate", "invalid_value"),
        (
            json!({"input": "a", "truncate_prompt_tokens": 0}),
            "truncate_prompt_tokens",
            "invalid_value",
        ),
        (
            json!({"input": "a", "truncate_prompt_tokens": MOST + 1}),
            "truncate_prompt_tokens",
            "invalid_value",
        ),
        (json!({"input": "a", "input_type": "query"}), "input_type", "invalid_value"),
        (json!({"input": "a", "task": "retrieval.query"}), "task", "invalid_value"),
    ] {
        let error = post(&router, EMBEDDINGS, body.clone()).await.error();
        assert_eq!(error, (400, param.into(), code.into()), "{body}");
    }
    let unknown = json!({"input": "a", "model": "gone"});
    let error = post(&router, EMBEDDINGS, unknown).await.error();
    assert_eq!(error, (404, "model".into(), "model_not_found".into()));
    assert_eq!(get(&router, EMBEDDINGS).await.error().0, 405);
}

#[tokio::test]
async fn long_texts_are_cut_where_they_may_be() {
    let text = format!("{}b", "a".repeat(30));
    for (field, value, letters) in [
        ("truncate", json!(true), 10.0),
        ("truncate", json!("END"), 10.0),
        ("truncate_prompt_tokens", json!(-1), 10.0),
        ("truncate_prompt_tokens", json!(5), 3.0),
    ] {
        let body = json!({"input": text, field: value});
        let answer = post(&router(), EMBEDDINGS, body).await.ok();
        assert_eq!(vectors(&answer), [[letters, 0.0, 0.0, 1.0]]);
        assert_eq!(answer["usage"]["prompt_tokens"], json!(letters as u64 + 2));
    }
    let ids = json!({"input": [97, 97, 98, 98], "truncate_prompt_tokens": 3});
    let answer = post(&router(), EMBEDDINGS, ids).await.ok();
    assert_eq!(vectors(&answer), [[2.0, 1.0, 0.0, 1.0]]);
    // The operator's word, and the request's against it.
    let router = router_of(ServerConfig { truncate_inputs: true, ..config() });
    post(&router, EMBEDDINGS, json!({"input": text})).await.ok();
    let error = post(&router, EMBEDDINGS, json!({"input": text, "truncate": false})).await.error();
    assert_eq!(error, (400, "input".into(), "context_length_exceeded".into()));
}

#[tokio::test]
async fn much_is_run_a_little_at_a_time() {
    let engine = Scripted::saying("x");
    let letters = Arc::new(Letters::default());
    let router = server(&engine, config()).with_embedder("letters", letters.clone()).router();
    let body = json!({"input": vec!["aaaaaaaa"; 1000]});
    let answer = post(&router, EMBEDDINGS, body).await.ok();
    assert_eq!(answer["data"].as_array().unwrap().len(), 1000);
    let calls = letters.calls.lock().unwrap();
    assert!(calls.len() > 3, "{}", calls.len());
    assert!(calls.iter().all(|call| call.iter().sum::<usize>() <= 2048));
    assert_eq!(calls.iter().map(Vec::len).sum::<usize>(), 1000);
}

#[tokio::test]
async fn an_encoder_that_fails_is_a_fault_without_details() {
    let failing = Letters { fails: true, ..Letters::default() };
    let server = server(&Scripted::saying("x"), config());
    let router = server.with_embedder("letters", Arc::new(failing)).router();
    let answer = post(&router, EMBEDDINGS, json!({"input": "a"})).await;
    assert_eq!(answer.error(), (500, String::new(), String::new()));
    assert!(!answer.text.contains("secret"));
}

#[tokio::test]
async fn documents_are_ranked_by_cosine() {
    let router = router();
    let documents = json!(["bbb", {"text": "aab"}, "", "aaa"]);
    let body = json!({"query": "aaaaa", "documents": documents, "return_documents": true});
    let answer = post(&router, RERANK, body).await.ok();
    let indices: Vec<u64> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indices, [3, 1, 2, 0], "{answer}");
    assert_eq!(answer["results"][1]["document"], json!({"text": "aab"}));
    assert_eq!((&answer["model"], &answer["scoring"]), (&json!("letters"), &json!("cosine")));
    assert_eq!(answer["usage"]["total_tokens"], json!(7 + 5 + 5 + 2 + 5));
    let best = answer["results"][0]["relevance_score"].as_f64().unwrap();
    assert!((best - 16.0 / (26.0_f64.sqrt() * 10.0_f64.sqrt())).abs() < 1e-6, "{best}");
    let body = json!({"query": "a", "documents": documents, "top_n": 2});
    let answer = post(&router, RERANK, body).await.ok();
    assert_eq!(answer["results"].as_array().unwrap().len(), 2);
    assert!(answer["results"][0].get("document").is_none());
}

#[tokio::test]
async fn a_cross_encoder_comes_first() {
    let served = server(&Scripted::saying("x"), config());
    let served = served.with_embedder("letters", Arc::new(Letters::default()));
    let router = served.with_reranker("scores", Arc::new(Scores)).router();
    let ask = |model: Value| json!({"model": model, "query": "a", "documents": ["b", "aa"]});
    let answer = post(&router, RERANK, ask(json!(null))).await.ok();
    assert_eq!((&answer["model"], &answer["scoring"]), (&json!("scores"), &json!("cross-encoder")));
    let results =
        json!([{"index": 1, "relevance_score": 3.0}, {"index": 0, "relevance_score": 1.0}]);
    assert_eq!(answer["results"], results);
    let answer = post(&router, RERANK, ask(json!("letters"))).await.ok();
    assert_eq!(answer["scoring"], "cosine");
    assert_eq!(post(&router, RERANK, ask(json!("gone"))).await.error().0, 404);
    let models = get(&router, "/v1/models").await.ok();
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["toy", "tuned", "letters", "scores"]);
    assert_eq!(get(&router, "/v1/models/letters").await.ok()["max_model_len"], MOST);
    // Alone, it scores and embeds nothing.
    let alone = server(&Scripted::saying("x"), config());
    let router = alone.with_reranker("scores", Arc::new(Scores)).router();
    post(&router, RERANK, ask(json!(null))).await.ok();
    assert_eq!(post(&router, RERANK, ask(json!("gone"))).await.error().0, 404);
    assert_eq!(post(&router, EMBEDDINGS, json!({"input": "a"})).await.error().0, 501);
}

#[tokio::test]
async fn what_is_wrong_with_documents_is_named() {
    let mut config = config();
    config.limits.encoder_inputs = 3;
    let router = router_of(config);
    let long = "x".repeat(MOST);
    for (body, param, code) in [
        (json!({"documents": ["a"]}), "query", "invalid_value"),
        (json!({"query": 1, "documents": ["a"]}), "query", "invalid_value"),
        (json!({"query": "a"}), "documents", "invalid_value"),
        (json!({"query": "a", "documents": []}), "documents", "invalid_value"),
        (json!({"query": "a", "documents": "b"}), "documents", "invalid_value"),
        (json!({"query": "a", "documents": ["a", 1]}), "documents[1]", "invalid_value"),
        (json!({"query": "a", "documents": [{"title": "a"}]}), "documents[0]", "invalid_value"),
        (json!({"query": "a", "documents": ["a", "b", "c", "d"]}), "documents", "invalid_value"),
        (
            json!({"query": "a", "documents": ["a", long]}),
            "documents[1]",
            "context_length_exceeded",
        ),
        (json!({"query": long, "documents": ["a"]}), "query", "context_length_exceeded"),
        (json!({"query": "a", "documents": ["a"], "top_n": 0}), "top_n", "invalid_value"),
        (
            json!({"query": "a", "documents": ["a"], "return_documents": 1}),
            "return_documents",
            "invalid_value",
        ),
        (
            json!({"query": "a", "documents": ["a"], "rank_fields": ["x"]}),
            "rank_fields",
            "invalid_value",
        ),
        (json!({"query": "a", "documents": ["a"], "model": "toy"}), "model", "invalid_value"),
    ] {
        let error = post(&router, RERANK, body.clone()).await.error();
        assert_eq!(error, (400, param.into(), code.into()), "{body}");
    }
    // The query is read with each document.
    let mut config = crate::client::config();
    config.limits.encoder_tokens = 1;
    let body = json!({"query": "aaa", "documents": ["a", "b", "c"]});
    let error = post(&router_of(config), RERANK, body).await.error();
    assert_eq!(error, (400, "query".into(), "invalid_value".into()));
    let cut = json!({"query": long, "documents": ["a", long], "truncate": true});
    post(&router, RERANK, cut).await.ok();
}

/// The chat is as it was, and the document has a word for each field that is read.
#[tokio::test]
async fn the_document_has_the_fields() {
    let router = router();
    let chat = json!({"messages": [{"role": "user", "content": "hi"}]});
    post(&router, CHAT, chat).await.ok();
    let document = get(&router, "/openapi.json").await.ok();
    for (path, schema, fields) in [
        (
            EMBEDDINGS,
            "EmbeddingRequest",
            &[
                "input",
                "model",
                "encoding_format",
                "dimensions",
                "truncate",
                "truncate_prompt_tokens",
                "user",
            ][..],
        ),
        (
            RERANK,
            "RerankRequest",
            &["query", "documents", "model", "top_n", "return_documents", "truncate"][..],
        ),
    ] {
        let operation = &document["paths"][path]["post"];
        let content = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(content["$ref"], format!("#/components/schemas/{schema}"));
        let properties =
            document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        let mut known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut wanted = fields.to_vec();
        known.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(known, wanted);
        for status in ["200", "400", "404", "413", "429", "500", "501", "503"] {
            assert!(operation["responses"].get(status).is_some(), "{path} {status}");
        }
    }
}

/// Encoders are a tenant's like other models: what it may not use is not there, and what they read is counted.
#[tokio::test]
async fn encoders_are_seen_and_counted_by_key() {
    let tenant = |name: &str, models: &[&str], tokens: Option<u64>| {
        let mut tenant = Tenant::new(name, KeyDigest::of(format!("key of {name}")));
        tenant.models = Some(models.iter().map(|&name| name.to_owned()).collect());
        tenant.tokens_per_day = tokens;
        tenant
    };
    let mut config = config();
    let tenants = vec![tenant("chats", &["toy"], None), tenant("finds", &["letters"], Some(10))];
    config.tenants = Tenants::new(tenants).unwrap();
    let router = router_of(config);
    let ask = async |name: &str, path: &str, body: Value| {
        let request = Request::post(path)
            .header("x-api-key", format!("key of {name}"))
            .header(header::CONTENT_TYPE, "application/json");
        send(&router, request.body(Body::from(body.to_string())).unwrap()).await
    };
    let rerank = json!({"query": "a", "documents": ["b"]});
    for (path, body) in [(EMBEDDINGS, json!({"input": "ab"})), (RERANK, rerank)] {
        assert_eq!(ask("chats", path, body).await.error().0, 404, "{path}");
    }
    for _ in 0..3 {
        assert_eq!(ask("finds", EMBEDDINGS, json!({"input": "ab"})).await.status, 200);
    }
    // Three texts of four tokens.
    let spent = ask("finds", EMBEDDINGS, json!({"input": "ab"})).await;
    assert_eq!(spent.error(), (429, String::new(), "quota_exceeded".into()));
}
