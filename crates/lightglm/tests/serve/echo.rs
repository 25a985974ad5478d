//! Replies that come back as part of the next conversation: their text has no opening of the template's,
//! and their tokens are those that the cache holds.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use lightglm::{LoadOptions, Model, Prompt, Request, SamplingParams, Server, ServerOptions};
use lightglm_core::{KV_BLOCK, WeightDtype};
use lightglm_model::config::GlmConfig;
use lightglm_serve::structured::Constraint;
use lightglm_text::{ChatText, Message, ModelText};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::server::{ask, runtime};

const CHAT: &str = "/v1/chat/completions";
/// Ids of the small tokenizer.
const VOCAB_SIZE: usize = 320;

/// A model folder that says the same after every `<|assistant|>`: a line break, as GLM-4 does, and the
/// text that is returned with it, none of whose tokens comes twice.
fn scripted() -> (TempDir, String) {
    let folder = crate::tiny_model::folder(7);
    let config = GlmConfig {
        vocab_size: VOCAB_SIZE,
        hidden_size: VOCAB_SIZE,
        num_hidden_layers: 1,
        eos_token_ids: vec![302, 309, 311],
        max_position_embeddings: 2048,
        ..GlmConfig::tiny()
    };
    let progress = &mut |_| ControlFlow::Continue(());
    lightglm_model::weights::write_random_checkpoint(
        folder.path(),
        &config,
        WeightDtype::F32,
        7,
        None,
        progress,
    )
    .unwrap();
    let text = Model::open(folder.path(), LoadOptions::default()).unwrap();
    let (reply, said) = all_different(text.text());
    let id = |token: &str| text.text().tokenizer.token_to_id(token).unwrap();
    let chain = [vec![id("<|assistant|>")], said, vec![id("<|user|>")]].concat();

    let tensors = config.tensor_shapes().into_iter().map(|(name, shape)| {
        let mut values = vec![f32::from(name.contains("norm")); shape.iter().product()];
        if name.contains("embed_tokens") {
            (0..VOCAB_SIZE).for_each(|token| values[token * VOCAB_SIZE + token] = 1.0);
        } else if name.contains("lm_head") {
            chain.windows(2).for_each(|pair| {
                values[pair[1] as usize * VOCAB_SIZE + pair[0] as usize] = 1.0;
            });
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        (name, (shape, bytes))
    });
    let tensors: HashMap<String, (Vec<usize>, Vec<u8>)> = tensors.collect();
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    (folder, reply)
}

/// A text of many tokens, and with a line break in front its ids, each of them once.
fn all_different(text: &ModelText) -> (String, Vec<u32>) {
    let mut reply = String::new();
    for character in ('!'..='~').rev() {
        let longer = format!("{reply}{character}");
        let mut ids = text.encode(&format!("\n{longer}")).unwrap();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() == count && count == longer.len() + 1 {
            reply = longer;
        }
    }
    let ids = text.encode(&format!("\n{reply}")).unwrap();
    assert!(ids.len() > 64, "{reply}");
    (reply, ids)
}

fn sampling() -> SamplingParams {
    SamplingParams { temperature: 0.0, max_tokens: 200, ..SamplingParams::default() }
}

#[test]
fn a_chat_computes_what_it_said_once() {
    let (folder, reply) = scripted();
    let model = Model::open(folder.path(), LoadOptions::default()).unwrap();
    let mut chat = model.chat().with_sampling(sampling());
    let mut first = chat.ask("Hi").unwrap();
    let streamed: String = first.by_ref().map(|step| step.unwrap().text).collect();
    let first = first.finish().unwrap();
    assert_eq!((streamed.as_str(), first.text.as_str()), (reply.as_str(), reply.as_str()));
    assert_eq!(chat.history()[1].content, Some(reply.clone().into()));
    let second = chat.ask("And?").unwrap().finish().unwrap();
    let seen = [first.prompt_token_ids, first.token_ids].concat();
    assert!(second.prompt_token_ids.starts_with(&seen));
    // The token that ended the reply was chosen, but not run.
    assert_eq!(second.speed.prompt_tokens, second.prompt_token_ids.len() - seen.len() + 1);

    assert_eq!(model.complete("Hi").unwrap().text, reply);
    let stopping = SamplingParams { stop: vec!["\n".to_owned()], ..sampling() };
    let stopped = model.complete(Request::ask("Hi").with_sampling(stopping)).unwrap();
    assert_eq!(stopped.text, reply, "the opening is not what was to stop it");
    // A text that is continued has no opening.
    let prompt = model.text().encode_chat(&[Message::user("Hi")], &[]).unwrap();
    let raw = Request { prompt: Prompt::Tokens(prompt), sampling: Some(sampling()) };
    assert_eq!(model.complete(raw).unwrap().text, format!("\n{reply}"));
}

/// A constraint has no place for the opening: it is said for the model, and the turn comes back as it was.
#[test]
fn a_constrained_reply_has_no_opening() {
    let (folder, reply) = scripted();
    let model = Model::open(folder.path(), LoadOptions::default()).unwrap();
    let free = model.text().encode_chat(&[Message::user("Hi")], &[]).unwrap();
    let constraint = Constraint::Regex("[!-~\n]*".to_owned());
    let mut chat = model.chat().with_sampling(sampling()).with_constraint(constraint);
    let first = chat.ask("Hi").unwrap().finish().unwrap();
    assert_eq!(first.text, reply);
    assert_eq!(first.prompt_token_ids, [free, model.text().encode("\n").unwrap()].concat());
    let second = chat.ask("And?").unwrap().finish().unwrap();
    let seen = [first.prompt_token_ids, first.token_ids].concat();
    assert!(second.prompt_token_ids.starts_with(&seen));
}

fn post(address: SocketAddr, path: &str, body: &Value) -> String {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let (status, body) = ask(address, &request);
    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
    body
}

#[test]
fn an_echoed_reply_is_in_the_prefix_cache() {
    let (folder, reply) = scripted();
    let model = Model::open(folder.path(), LoadOptions::default()).unwrap();
    let options = ServerOptions { model_name: Some("tiny".into()), ..Default::default() };
    let server = Server::new(model, options).unwrap();
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = runtime.spawn(server.serve_on(listener, std::future::pending()));

    let mut messages = vec![json!({"role": "user", "content": "Hi"})];
    let body = |messages: &[Value]| json!({"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 200});
    let first: Value = serde_json::from_str(&post(address, CHAT, &body(&messages))).unwrap();
    assert_eq!(first["choices"][0]["message"]["content"], reply.as_str());
    let tokens = |usage: &str| first["usage"][usage].as_u64().unwrap() as usize;
    let seen = tokens("prompt_tokens") + tokens("completion_tokens");

    messages.push(first["choices"][0]["message"].clone());
    messages.push(json!({"role": "user", "content": "And?"}));
    let second: Value = serde_json::from_str(&post(address, CHAT, &body(&messages))).unwrap();
    let cached = &second["usage"]["prompt_tokens_details"]["cached_tokens"];
    // The token that ended the reply was chosen, but not run.
    assert_eq!(*cached, (seen - 1) / KV_BLOCK * KV_BLOCK, "{}", second["usage"]);
    assert!(cached.as_u64().unwrap() > 64);

    let mut streamed = body(&messages);
    streamed["stream"] = true.into();
    let events = post(address, CHAT, &streamed);
    let said = events.lines().filter_map(|line| line.strip_prefix("data: {"));
    let said = said.filter_map(|event| {
        let event: Value = serde_json::from_str(&format!("{{{event}")).unwrap();
        Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())
    });
    assert_eq!(said.collect::<String>(), reply);
    let mut constrained = body(&messages[..1]);
    constrained["guided_regex"] = "[!-~\\n]*".into();
    let constrained: Value = serde_json::from_str(&post(address, CHAT, &constrained)).unwrap();
    assert_eq!(constrained["choices"][0]["message"]["content"], reply.as_str());
    let answer = post(address, "/answer", &json!({"question": "Hi", "max_tokens": 200}));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["answer"], reply.as_str());
    serving.abort();
}
