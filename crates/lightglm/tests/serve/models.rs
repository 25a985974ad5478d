//! Several models behind one server, and adapters that requests load.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lightglm::{Error, LoadOptions, Request, ServedModel, Server, ServerOptions, Weights};
use lightglm_model::checkpoint::Checkpoint;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::server::{ask, completion, get_request, post, runtime, whole_weight};
use crate::tiny_model::{folder, greedy, open};

/// Runs `asks` against `server` on a socket, which ends then.
fn while_it_serves(server: Server, asks: impl FnOnce(SocketAddr)) {
    let runtime: Runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let serving = runtime.spawn(server.serve_on(listener, async {
        let _ = ended.await;
    }));
    asks(address);
    end.send(()).unwrap();
    runtime.block_on(serving).unwrap().unwrap();
}

fn json_of((status, body): (String, String)) -> Value {
    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
    serde_json::from_str(&body).unwrap()
}

fn text_of(address: SocketAddr, model: &str) -> String {
    let reply = json_of(ask(address, &completion(model, "ab", 6)));
    assert_eq!(reply["model"], model);
    reply["choices"][0]["text"].as_str().unwrap().to_owned()
}

fn loaded(address: SocketAddr) -> Vec<String> {
    let listed = json_of(ask(address, &get_request("/v1/models")));
    let here = listed["data"].as_array().unwrap().iter().filter(|model| model["loaded"] == true);
    here.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

fn served(name: &str, folder: &Path) -> ServedModel {
    let load = LoadOptions { max_context: Some(256), ..LoadOptions::default() };
    ServedModel { load, kv_memory: Some(1 << 20), ..ServedModel::new(name, folder) }
}

#[test]
fn models_say_what_they_say_alone_and_share_their_memory() {
    let folders = [folder(11), folder(12)];
    let int8 = || LoadOptions { weights: Weights::scheme("int8").unwrap(), ..Default::default() };
    let alone = |load: LoadOptions, at: usize| {
        let model = open(&folders[at], load);
        model.complete(Request::text("ab").with_sampling(greedy(6))).unwrap().text
    };
    let expected = [alone(LoadOptions::default(), 0), alone(int8(), 1)];
    let models = || {
        let second = ServedModel { load: int8(), ..served("second", folders[1].path()) };
        vec![served("first", folders[0].path()), second]
    };
    let bytes: Vec<u64> = {
        let server = Server::of_models(models(), ServerOptions::default()).unwrap();
        assert!(server.handle().is_none() && server.model_memory().is_some());
        server.models().iter().map(|model| model.bytes.unwrap().total()).collect()
    };
    // Of tiny models the scales of INT8 are not nothing.
    assert!(bytes[1] < bytes[0] && bytes[1] > 1 << 20, "{bytes:?}");
    let told = Server::of_models(models(), ServerOptions::default()).unwrap();
    assert_eq!(told.models()[0].max_positions, Some(256));
    drop(told);

    // One at a time.
    let options = ServerOptions { model_memory: Some(bytes[0] + 100), ..Default::default() };
    while_it_serves(Server::of_models(models(), options).unwrap(), |address| {
        assert!(loaded(address).is_empty());
        for _ in 0..2 {
            for (at, name) in ["first", "second"].into_iter().enumerate() {
                assert_eq!(text_of(address, name), expected[at]);
                assert_eq!(loaded(address), [name]);
            }
        }
    });
    // Both, until nobody has asked for a while.
    let options = ServerOptions {
        unload_after: Some(Duration::from_secs(1)),
        model_name: Some("second".into()),
        ..Default::default()
    };
    while_it_serves(Server::of_models(models(), options).unwrap(), |address| {
        assert_eq!(text_of(address, "first"), expected[0]);
        let body = r#"{"prompt": "ab", "max_tokens": 6, "temperature": 0, "ignore_eos": true}"#;
        let reply = json_of(ask(address, &post("/v1/completions", body)));
        assert_eq!(reply["choices"][0]["text"], expected[1].as_str());
        assert_eq!(loaded(address), ["first", "second"]);
        for _ in 0..600 {
            if loaded(address).is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("they do not leave");
    });
}

#[test]
fn what_does_not_fit_is_told_with_the_arithmetic() {
    let folder = folder(13);
    let model = || served("first", folder.path());
    let options = |bytes| ServerOptions { model_memory: Some(bytes), ..Default::default() };
    let kept = ServedModel { keep: true, ..model() };
    let error = Server::of_models(vec![kept], options(1 << 20)).unwrap_err();
    let words = "of weights and 1.00 MiB of keys and values; models may take 1.00 MiB";
    assert!(error.to_string().contains(words), "{error}");
    while_it_serves(Server::of_models(vec![model()], options(1 << 20)).unwrap(), |address| {
        let (status, body) = ask(address, &completion("first", "ab", 6));
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{body}");
        assert!(body.contains(words), "{body}");
    });
}

#[test]
fn models_that_cannot_be_served_are_refused_by_name() {
    let folder = folder(14);
    let refused = |model: ServedModel| {
        Server::of_models(vec![model], ServerOptions::default()).unwrap_err().to_string()
    };
    let mut budget = served("first", folder.path());
    budget.load.kv_budget = Some(32);
    assert!(refused(budget).contains("kv_budget"));
    let none = ServedModel { default_max_tokens: Some(0), ..served("first", folder.path()) };
    assert!(refused(none).contains("default_max_tokens"));
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(refused(served("first", folder.path())).contains("config.json"));
    let gone = refused(served("first", Path::new("/no/such/model")));
    assert!(gone.contains("/no/such/model"), "{gone}");
    // What is no folder may be a name on a hub, which is looked for when it is used.
    let away = served("first", Path::new("no/such/model/anywhere"));
    assert!(Server::of_models(vec![away], ServerOptions::default()).is_ok());
    let nothing = Server::of_models(Vec::new(), ServerOptions::default());
    assert!(matches!(nothing, Err(Error::Server(_))));
}

/// A server knows its adapters without being told of each, this time and after the next start.
#[test]
fn adapters_are_there_on_first_use_and_after_a_restart() {
    let (model, adapters) = (folder(6), tempfile::tempdir().unwrap());
    let config = Checkpoint::open(model.path()).unwrap().config().clone();
    let shape = [config.vocab_size, config.hidden_size];
    whole_weight(adapters.path(), "head", "lm_head", shape);
    std::fs::create_dir(adapters.path().join("no-adapter")).unwrap();
    let load =
        || LoadOptions { adapters: Some(adapters.path().to_owned()), ..LoadOptions::default() };
    let alone = open(&model, load()).with_adapter("head").unwrap();
    let alone = alone.complete(Request::text("ab").with_sampling(greedy(6))).unwrap().text;
    for _ in 0..2 {
        let server = Server::new(open(&model, load()), ServerOptions::default()).unwrap();
        while_it_serves(server, |address| {
            let listed = json_of(ask(address, &get_request("/v1/models")));
            let ids: Vec<_> = listed["data"].as_array().unwrap().iter().skip(1).collect();
            assert_eq!(
                (ids.len(), &ids[0]["id"], &ids[0]["loaded"]),
                (1, &"head".into(), &false.into())
            );
            assert_eq!(text_of(address, "head"), alone);
            let (status, _) = ask(address, &completion("no-adapter", "ab", 6));
            assert_eq!(status, "HTTP/1.1 404 Not Found");
            let unload = post("/v1/unload_lora_adapter", r#"{"lora_name":"head"}"#);
            json_of(ask(address, &unload));
            let (status, _) = ask(address, &completion("head", "ab", 6));
            assert_eq!(status, "HTTP/1.1 404 Not Found");
        });
    }
}
