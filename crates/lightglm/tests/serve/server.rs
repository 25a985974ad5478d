//! `Server`: a model opened by name of its folder, behind the API.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use lightglm::server::axum::Router;
use lightglm::server::axum::routing::get;
use lightglm::{Error, LoadOptions, Request, Server, ServerOptions, Sparsity, Weights};
use lightglm_core::{SafetensorsWriter, StoredDtype, TensorSpec};
use lightglm_model::checkpoint::Checkpoint;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::tiny_model::{folder, greedy, open};

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One request over one connection; the status line and the body.
pub(crate) fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

pub(crate) fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

pub(crate) fn completion(model: &str, prompt: &str, max_tokens: usize) -> String {
    let body = format!(
        r#"{{"model":"{model}","prompt":"{prompt}","max_tokens":{max_tokens},"temperature":0,"ignore_eos":true}}"#
    );
    post("/v1/completions", &body)
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn answers_as_the_model_does_and_ends_when_told() {
    let folder = folder(3);
    let int8 = || LoadOptions { weights: Weights::scheme("int8").unwrap(), ..Default::default() };
    let alone = open(&folder, int8());
    let alone = alone.complete(Request::text("ab").with_sampling(greedy(6))).unwrap();
    let options = ServerOptions { model_name: Some("tiny".into()), ..Default::default() };
    let server = Server::new(open(&folder, int8()), options).unwrap();
    assert!(server.kv_bytes() > 0);
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let serving = runtime.spawn(server.serve_on(listener, async {
        let _ = ended.await;
    }));
    let (status, body) = ask(address, &completion("tiny", "ab", 6));
    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
    let reply: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(reply["choices"][0]["text"], alone.text.as_str());
    let (status, body) = ask(address, &completion("another", "ab", 6));
    assert_eq!(status, "HTTP/1.1 404 Not Found", "{body}");
    end.send(()).unwrap();
    runtime.block_on(serving).unwrap().unwrap();
}

/// Writes an adapter that is the whole weight `module`, `[V, D]`.
pub(crate) fn whole_weight(folder: &Path, name: &str, module: &str, shape: [usize; 2]) {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let config = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8}"#;
    std::fs::write(folder.join("adapter_config.json"), config).unwrap();
    let name = format!("base_model.model.{module}.weight");
    let spec = TensorSpec { name, dtype: StoredDtype::F32, shape: shape.to_vec() };
    let file = folder.join("adapter_model.safetensors");
    let mut writer = SafetensorsWriter::create(file, [spec], &BTreeMap::new()).unwrap();
    let value = |i: usize| ((i * i * 7 + i) % 23) as f32 * 0.05 - 0.55;
    let values = (0..shape[0] * shape[1]).flat_map(|i| value(i).to_le_bytes());
    writer.write(&values.collect::<Vec<u8>>()).unwrap();
    writer.finish().unwrap();
}

/// Requests of one batch have heads and tables of their own; an adapter that does not fit is told to its client.
#[test]
fn adapters_bring_their_own_heads_and_tables() {
    let (model, adapters) = (folder(6), tempfile::tempdir().unwrap());
    let config = Checkpoint::open(model.path()).unwrap().config().clone();
    let shape = [config.vocab_size, config.hidden_size];
    whole_weight(adapters.path(), "head", "lm_head", shape);
    whole_weight(adapters.path(), "table", "model.embed_tokens", shape);
    whole_weight(adapters.path(), "resized", "lm_head", [shape[0] + 1, shape[1]]);
    let load =
        || LoadOptions { adapters: Some(adapters.path().to_owned()), ..LoadOptions::default() };
    let base = open(&model, load());
    let alone = |name: &str| {
        let model = base.with_adapter(name).unwrap();
        model.complete(Request::text("ab").with_sampling(greedy(12))).unwrap().text
    };
    let expected = [("head", alone("head")), ("table", alone("table"))];
    assert_ne!(expected[0].1, expected[1].1);
    let server = Server::new(open(&model, load()), ServerOptions::default()).unwrap();
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let serving = runtime.spawn(server.serve_on(listener, async {
        let _ = ended.await;
    }));
    let load = |name: &str| {
        let body = format!(r#"{{"lora_name":"{name}"}}"#);
        ask(address, &post("/v1/load_lora_adapter", &body))
    };
    for (name, _) in &expected {
        assert_eq!(load(name).0, "HTTP/1.1 200 OK");
    }
    let (status, body) = load("resized");
    assert_eq!(status, "HTTP/1.1 400 Bad Request", "{body}");
    assert!(
        body.contains("base_model.model.lm_head.weight") && body.contains("where the model has"),
        "{body}"
    );
    std::thread::scope(|scope| {
        for (name, text) in &expected {
            scope.spawn(move || {
                let (status, body) = ask(address, &completion(name, "ab", 12));
                assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
                let reply: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(reply["choices"][0]["text"], text.as_str(), "{name}");
            });
        }
    });
    end.send(()).unwrap();
    runtime.block_on(serving).unwrap().unwrap();
}

#[test]
fn the_router_stands_in_an_application_of_ones_own() {
    let folder = folder(4);
    let server = Server::new(open(&folder, LoadOptions::default()), ServerOptions::default());
    let app = Router::new().route("/own", get(|| async { "own" })).merge(server.unwrap().router());
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = runtime.spawn(async { lightglm::server::axum::serve(listener, app).await });
    assert_eq!(ask(address, &get_request("/own")).1, "own");
    assert_eq!(ask(address, &get_request("/health")).0, "HTTP/1.1 200 OK");
    serving.abort();
}

#[test]
fn what_cannot_be_served_is_refused() {
    let folder = folder(5);
    let refused = |load: LoadOptions, options: ServerOptions, field: &str| match Server::new(
        open(&folder, load),
        options,
    )
    .map(|_| ())
    {
        Err(Error::Option { option, .. }) => assert_eq!(option, field),
        other => panic!("{field}: {other:?}"),
    };
    let load = LoadOptions::default;
    let options = ServerOptions::default;
    refused(LoadOptions { kv_budget: Some(32), ..load() }, options(), "kv_budget");
    let neurons = Sparsity::PromptNeurons(0.5);
    refused(LoadOptions { sparsity: neurons, ..load() }, options(), "sparsity");
    refused(load(), ServerOptions { max_running: 0, ..options() }, "max_running");
    refused(load(), ServerOptions { max_waiting: 0, ..options() }, "max_waiting");
    refused(load(), ServerOptions { token_budget: 0, ..options() }, "token_budget");
    refused(load(), ServerOptions { max_open_per_key: Some(0), ..options() }, "max_open_per_key");
    refused(load(), ServerOptions { kv_memory: Some(1), ..options() }, "kv_memory");
    let keys = ServerOptions { api_keys: vec![" ".into()], ..options() };
    assert!(matches!(keys.check(), Err(Error::Server(_))));
}
