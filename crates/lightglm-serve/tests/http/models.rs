//! Several models: who comes when, who has to leave, and what is said of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use lightglm_generation::SamplingParams;
use lightglm_serve::http::{
    KeyDigest, LoadedModel, ModelBytes, ModelEntry, ModelRepository, ModelsError, Server,
    ServerConfig, ServerConfigError, Tenant, Tenants,
};
use lightglm_text::ChatText;
use serde_json::{Value, json};

use crate::client::{CHAT, COMPLETIONS, chat, get, post, send};
use crate::scripted::{Script, Scripted, wait_for};
use crate::toy_text::ToyText;

/// Models whose engines follow scripts.
struct Shelf {
    entries: Vec<ModelEntry>,
    engines: Vec<Arc<Scripted>>,
    /// `+name` for each that came, `-name` for each that left.
    moves: Arc<Mutex<Vec<String>>>,
    broken: Mutex<HashSet<String>>,
    adapters: Mutex<Vec<String>>,
    slowness: Duration,
}

/// A model's memory.
struct Owner(String, Arc<Mutex<Vec<String>>>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(format!("-{}", self.0));
    }
}

impl Shelf {
    /// Models of 60 bytes each, which say their names.
    fn of(names: &[&str]) -> Self {
        let entries = names.iter().map(|name| ModelEntry {
            name: (*name).to_owned(),
            aliases: vec![format!("alias-of-{name}")],
            created: 7,
            max_positions: Some(4096),
            bytes: Some(ModelBytes { weights: 50, kv_cache: 10 }),
            keep: false,
        });
        Self {
            entries: entries.collect(),
            engines: names.iter().map(|name| Scripted::saying(name)).collect(),
            moves: Arc::default(),
            broken: Mutex::default(),
            adapters: Mutex::default(),
            slowness: Duration::ZERO,
        }
    }

    fn engine(&self, name: &str) -> &Arc<Scripted> {
        &self.engines[self.entries.iter().position(|entry| entry.name == name).unwrap()]
    }

    fn moves(&self) -> Vec<String> {
        self.moves.lock().unwrap().clone()
    }
}

impl ModelRepository for Shelf {
    fn entries(&self) -> Vec<ModelEntry> {
        self.entries.clone()
    }

    fn bytes(&self, model: &str) -> Result<ModelBytes, String> {
        let entry = self.entries.iter().find(|entry| entry.name == model).unwrap();
        entry.bytes.ok_or_else(|| "/secret/place: no such file".into())
    }

    fn load(&self, model: &str) -> Result<LoadedModel, String> {
        std::thread::sleep(self.slowness);
        if self.broken.lock().unwrap().contains(model) {
            return Err("/secret/place: broken".into());
        }
        self.moves.lock().unwrap().push(format!("+{model}"));
        Ok(LoadedModel {
            engine: self.engine(model).clone(),
            text: Arc::new(ToyText::new()),
            constrain: None,
            media: None,
            sampling: SamplingParams { max_tokens: 100, ..SamplingParams::default() },
            owner: Box::new(Owner(model.to_owned(), self.moves.clone())),
        })
    }

    fn text(&self, _: &str) -> Result<Arc<dyn ChatText>, String> {
        Ok(Arc::new(ToyText::new()))
    }

    fn adapters(&self, model: &str) -> Vec<String> {
        match model {
            "a" => self.adapters.lock().unwrap().clone(),
            _ => Vec::new(),
        }
    }
}

fn config(memory: Option<u64>) -> ServerConfig {
    let mut config = ServerConfig::new("");
    config.model_memory = memory;
    config
}

fn router(shelf: &Arc<Shelf>, config: ServerConfig) -> Router {
    Server::of_models(config, shelf.clone()).unwrap().router()
}

fn asking(model: &str) -> Value {
    chat(json!({"model": model}))
}

async fn said(router: &Router, model: &str) -> String {
    let reply = post(router, CHAT, asking(model)).await.ok();
    reply["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_model_comes_when_it_is_named() {
    let shelf = Arc::new(Shelf::of(&["a", "b"]));
    let router = router(&shelf, config(None));
    let listed = get(&router, "/v1/models").await.ok();
    let listed = listed["data"].as_array().unwrap();
    let ids: Vec<_> = listed.iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "alias-of-a", "b", "alias-of-b"]);
    assert_eq!(listed[1]["root"], "a");
    for model in listed {
        let told = [&model["created"], &model["max_model_len"], &model["loaded"]];
        assert_eq!(told, [&json!(7), &json!(4096), &json!(false)]);
    }
    assert!(shelf.moves().is_empty());

    assert_eq!(said(&router, "b").await, "b");
    let reply = post(&router, CHAT, asking("alias-of-b")).await.ok();
    assert_eq!(reply["model"], "b");
    let reply = post(&router, COMPLETIONS, json!({"model": "a", "prompt": "x"})).await.ok();
    assert_eq!((&reply["choices"][0]["text"], &reply["model"]), (&json!("a"), &json!("a")));
    assert_eq!(shelf.moves(), ["+b", "+a"]);
    let one = get(&router, "/v1/models/alias-of-b").await.ok();
    assert_eq!(one["loaded"], true);

    for path in ["/tokenize", "/detokenize"] {
        let body = json!({"model": "b", "text": "xy", "tokens": [120, 121]});
        post(&router, path, body).await.ok();
        let body = json!({"model": "c", "text": "xy", "tokens": [120, 121]});
        let error = post(&router, path, body).await.error();
        assert_eq!(error, (404, "model".into(), "model_not_found".into()));
    }
    let error = post(&router, CHAT, asking("c")).await.error();
    assert_eq!(error, (404, "model".into(), "model_not_found".into()));
}

#[tokio::test]
async fn who_names_none_gets_the_default_or_is_told() {
    let shelf = Arc::new(Shelf::of(&["a", "b"]));
    for path in [CHAT, COMPLETIONS, "/answer", "/tokenize"] {
        let body = json!({"messages": [{"role": "user", "content": "hi"}], "prompt": "x",
            "question": "x"});
        let error = post(&router(&shelf, config(None)), path, body).await.error();
        assert_eq!(error, (400, "model".into(), "invalid_value".into()), "{path}");
    }
    assert!(shelf.moves().is_empty());
    let mut config = config(None);
    config.model_name = "alias-of-b".into();
    let router = router(&shelf, config);
    let reply = post(&router, CHAT, chat(json!({}))).await.ok();
    assert_eq!(reply["model"], "b");
}

#[tokio::test]
async fn those_that_wait_for_a_model_wait_for_one_loading() {
    let mut shelf = Shelf::of(&["a"]);
    shelf.slowness = Duration::from_millis(200);
    let shelf = Arc::new(shelf);
    let router = router(&shelf, config(None));
    let all = (0..8).map(|_| {
        let router = router.clone();
        tokio::spawn(async move { said(&router, "a").await })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), "a");
    }
    assert_eq!(shelf.moves(), ["+a"]);
}

#[tokio::test]
async fn a_loading_goes_on_without_who_asked() {
    let mut shelf = Shelf::of(&["a"]);
    shelf.slowness = Duration::from_millis(150);
    let shelf = Arc::new(shelf);
    let mut config = config(None);
    config.limits.request_timeout = Duration::from_millis(50);
    let router = router(&shelf, config);
    // A second of grace is for the engine, not for the model.
    let asked = tokio::time::timeout(Duration::from_millis(60), post(&router, CHAT, asking("a")));
    assert!(asked.await.is_err());
    tokio::time::timeout(Duration::from_secs(20), async {
        while shelf.moves().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_least_recently_used_makes_room() {
    let shelf = Arc::new(Shelf::of(&["a", "b", "c"]));
    // Two fit.
    let router = router(&shelf, config(Some(120)));
    for model in ["a", "b", "a", "c", "a", "b"] {
        assert_eq!(said(&router, model).await, model);
        // The order of use is an order in time.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(shelf.moves(), ["+a", "+b", "-b", "+c", "-c", "+b"]);
}

#[tokio::test]
async fn a_model_that_answers_stays_and_who_wants_its_room_is_told_why() {
    let mut shelf = Shelf::of(&["a", "b"]);
    shelf.engines[0] = Scripted::following(Script::Forever(Duration::from_millis(1)));
    let shelf = Arc::new(shelf);
    let router = router(&shelf, config(Some(100)));
    let streaming = {
        let router = router.clone();
        let body = chat(json!({"model": "a", "max_tokens": 100_000, "stream": true}));
        tokio::spawn(async move { post(&router, CHAT, body).await })
    };
    let engine = shelf.engine("a").clone();
    tokio::task::spawn_blocking(move || wait_for("a reply", || engine.open() == 1)).await.unwrap();
    let answer = post(&router, CHAT, asking("b")).await;
    assert_eq!(answer.error(), (503, "model".into(), "model_memory".into()));
    assert!(answer.headers.contains_key("retry-after"));
    let words = ["`b` needs 0.00 MiB", "of weights", "of keys and values", "one that is in use"];
    for word in words {
        assert!(answer.text.contains(word), "{}", answer.text);
    }
    assert!(!answer.text.contains("`a`"), "{}", answer.text);
    // Whoever listened has gone.
    streaming.abort();
    let _ = streaming.await;
    assert_eq!(said(&router, "b").await, "b");
    assert_eq!(shelf.moves(), ["+a", "-a", "+b"]);
}

#[tokio::test]
async fn what_never_fits_drives_nobody_out() {
    let mut shelf = Shelf::of(&["a", "b"]);
    shelf.entries[1].bytes = Some(ModelBytes { weights: 3 << 30, kv_cache: 1 << 29 });
    let shelf = Arc::new(shelf);
    let router = router(&shelf, config(Some(2 << 30)));
    said(&router, "a").await;
    let answer = post(&router, CHAT, asking("b")).await;
    assert_eq!(answer.error(), (503, "model".into(), "model_memory".into()));
    assert!(!answer.headers.contains_key("retry-after"));
    let words = "needs 3.50 GiB, 3.00 GiB of weights and 512 MiB of keys and values; models may take \
                 2.00 GiB";
    assert!(answer.text.contains(words), "{}", answer.text);
    assert_eq!(shelf.moves(), ["+a"]);
}

/// Beside one that never leaves it never fits: coming again is of no use.
#[tokio::test]
async fn what_stays_is_not_waited_for() {
    let mut shelf = Shelf::of(&["a", "b"]);
    // Listed before what stays.
    shelf.entries[1].keep = true;
    let router = router(&Arc::new(shelf), config(Some(100)));
    let answer = post(&router, CHAT, asking("a")).await;
    assert_eq!(answer.error(), (503, "model".into(), "model_memory".into()));
    assert!(!answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_the_logs_affair() {
    let mut shelf = Shelf::of(&["a", "b"]);
    shelf.entries[1].bytes = None;
    let shelf = Arc::new(shelf);
    let router = router(&shelf, config(None));
    shelf.broken.lock().unwrap().insert("a".into());
    for model in ["a", "b"] {
        let answer = post(&router, CHAT, asking(model)).await;
        assert_eq!(answer.error(), (503, "model".into(), "model_not_loadable".into()));
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
    // Once it is mended it comes.
    shelf.broken.lock().unwrap().clear();
    assert_eq!(said(&router, "a").await, "a");
}

#[tokio::test]
async fn a_model_leaves_that_nobody_uses() {
    let mut shelf = Shelf::of(&["a", "b"]);
    shelf.engines[1] = Scripted::following(Script::Forever(Duration::from_millis(1)));
    shelf.entries[0].keep = true;
    let shelf = Arc::new(shelf);
    let mut config = config(None);
    config.unload_after = Some(Duration::from_millis(100));
    let router = router(&shelf, config);
    // What stays is there from the start.
    assert_eq!(shelf.moves(), ["+a"]);
    let streaming = {
        let router = router.clone();
        let body = chat(json!({"model": "b", "max_tokens": 300, "stream": true}));
        tokio::spawn(async move { post(&router, CHAT, body).await })
    };
    assert_eq!(streaming.await.unwrap().events().last().unwrap()["model"], "b");
    // It took longer than that, and it stayed.
    assert_eq!(shelf.moves(), ["+a", "+b"]);
    for _ in 0..400 {
        if shelf.moves().len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shelf.moves(), ["+a", "+b", "-b"]);
    assert_eq!(get(&router, "/v1/models/a").await.ok()["loaded"], true);
    assert_eq!(get(&router, "/v1/models/b").await.ok()["loaded"], false);
}

#[tokio::test]
async fn adapters_come_on_first_use() {
    let shelf = Arc::new(Shelf::of(&["a", "b"]));
    let names = ["one", "three", "two", "unfit"];
    *shelf.adapters.lock().unwrap() = names.map(str::to_owned).to_vec();
    let mut config = config(None);
    config.limits.adapters = 2;
    let router = router(&shelf, config);
    let listed = get(&router, "/v1/models/one").await.ok();
    assert_eq!((&listed["parent"], &listed["loaded"]), (&json!("a"), &json!(false)));

    let reply = post(&router, CHAT, asking("one")).await.ok();
    assert_eq!(reply["model"], "one");
    assert_eq!(shelf.engine("a").one().model.as_deref(), Some("one"));
    let loaded = || lightglm_serve::engine::EngineApi::adapters(&**shelf.engine("a"));
    assert_eq!(loaded(), ["tuned", "one"]);
    post(&router, CHAT, asking("two")).await.ok();
    post(&router, CHAT, asking("one")).await.ok();
    post(&router, CHAT, asking("three")).await.ok();
    // `tuned` was not loaded by a request.
    assert_eq!(loaded(), ["tuned", "one", "three"]);

    let answer = post(&router, CHAT, asking("unfit")).await;
    assert_eq!(answer.error(), (400, "model".into(), "adapter_not_loadable".into()));

    // By hand it goes and stays away, used or not.
    for name in ["one", "two"] {
        post(&router, "/v1/unload_lora_adapter", json!({"lora_name": name})).await.ok();
        assert_eq!(post(&router, CHAT, asking(name)).await.status, 404);
        assert_eq!(get(&router, &format!("/v1/models/{name}")).await.status, 404);
    }
    let by_hand = json!({"lora_name": "one", "model": "alias-of-a"});
    post(&router, "/v1/load_lora_adapter", by_hand).await.ok();
    post(&router, CHAT, asking("one")).await.ok();
    let of_another = json!({"lora_name": "new", "model": "b"});
    post(&router, "/v1/load_lora_adapter", of_another).await.ok();
    assert_eq!(get(&router, "/v1/models/new").await.ok()["parent"], "b");
    let error = post(&router, "/v1/load_lora_adapter", json!({"lora_name": "nowhere"})).await;
    assert_eq!(error.error(), (400, "model".into(), "invalid_value".into()));
}

#[tokio::test]
async fn a_key_sees_the_models_that_it_may_use() {
    let shelf = Arc::new(Shelf::of(&["a", "b"]));
    let mut tenant = Tenant::new("one", KeyDigest::of("key"));
    tenant.models = Some(vec!["alias-of-b".into()]);
    let mut config = config(None);
    config.tenants = Tenants::new(vec![tenant]).unwrap();
    let router = router(&shelf, config);
    let ask = async |path: &str, model: &str| {
        let request = axum::http::Request::post(path)
            .header("authorization", "Bearer key")
            .header("content-type", "application/json");
        let body = match path {
            CHAT => asking(model),
            _ => json!({"model": model, "text": "x"}),
        };
        send(&router, request.body(body.to_string().into()).unwrap()).await.status.as_u16()
    };
    for path in [CHAT, "/tokenize"] {
        assert_eq!(ask(path, "a").await, 404);
        assert_eq!(ask(path, "b").await, 404);
        assert_eq!(ask(path, "alias-of-b").await, 200);
    }
    assert_eq!(shelf.moves(), ["+b"]);
}

#[tokio::test]
async fn ollamas_lists_load_nothing_and_its_keep_alive_unloads() {
    let shelf = Arc::new(Shelf::of(&["a", "b"]));
    let mut config = config(None);
    config.unload_after = Some(Duration::from_secs(3600));
    let router = router(&shelf, config);
    let tags = get(&router, "/api/tags").await.ok();
    assert_eq!(tags["models"].as_array().unwrap().len(), 4);
    assert_eq!(tags["models"][0]["size"], 60);
    let shown = post(&router, "/api/show", json!({"model": "a:latest"})).await.ok();
    assert_eq!(shown["model_info"]["lightglm.context_length"], 4096);
    assert_eq!(get(&router, "/api/ps").await.ok()["models"], json!([]));
    assert!(shelf.moves().is_empty());

    post(&router, "/api/generate", json!({"model": "a"})).await.ok();
    let running = get(&router, "/api/ps").await.ok();
    assert_eq!(running["models"][0]["name"], "a");
    assert!(running["models"][0]["expires_at"].as_str().unwrap().starts_with("20"));
    let unload = json!({"model": "a", "keep_alive": 0});
    post(&router, "/api/generate", unload).await.ok();
    assert_eq!(shelf.moves(), ["+a", "-a"]);
}

#[tokio::test]
async fn metrics_are_by_model() {
    let mut shelf = Shelf::of(&["a", "b"]);
    shelf.slowness = Duration::from_millis(1);
    let shelf = Arc::new(shelf);
    let router = router(&shelf, config(Some(100)));
    for model in ["a", "b", "a"] {
        said(&router, model).await;
    }
    let answer = get(&router, "/metrics").await;
    let lines = [
        "lightglm_model_loaded{model=\"a\"} 1",
        "lightglm_model_loaded{model=\"b\"} 0",
        "lightglm_model_bytes{model=\"a\"} 60",
        "lightglm_model_loads_total{model=\"a\"} 2",
        "lightglm_model_loads_total{model=\"b\"} 1",
        "lightglm_requests_running{model=\"a\"} 2",
    ];
    for line in lines {
        assert!(answer.text.lines().any(|other| other == line), "{line}\n{}", answer.text);
    }
    assert!(!answer.text.contains("requests_running{model=\"b\"}"));
}

#[test]
fn names_are_checked_and_what_is_to_stay_has_to_fit() {
    let error =
        |shelf: Shelf, config: ServerConfig| match Server::of_models(config, Arc::new(shelf)) {
            Err(ServerConfigError::Models(error)) => error,
            other => panic!("{}", other.err().map_or("served".into(), |error| error.to_string())),
        };
    assert_eq!(error(Shelf::of(&[]), config(None)), ModelsError::None);
    let same = error(Shelf::of(&["a", "a"]), config(None));
    assert_eq!(same, ModelsError::SameName { name: "a".into() });
    let same = error(Shelf::of(&["a", "alias-of-a"]), config(None));
    assert_eq!(same, ModelsError::SameName { name: "alias-of-a".into() });
    assert_eq!(error(Shelf::of(&["a", ""]), config(None)), ModelsError::EmptyName { index: 1 });
    let mut other = config(None);
    other.model_name = "c".into();
    let default = error(Shelf::of(&["a"]), other);
    assert_eq!(default, ModelsError::Default { name: "c".into() });

    let kept = || {
        let mut shelf = Shelf::of(&["a", "b"]);
        shelf.entries.iter_mut().for_each(|entry| entry.keep = true);
        shelf
    };
    let shortage = error(kept(), config(Some(100))).to_string();
    assert!(shortage.contains("`b` needs") && shortage.contains("one that is in use"));
    let shelf = kept();
    shelf.broken.lock().unwrap().insert("b".into());
    let broken = error(shelf, config(None));
    assert_eq!(broken.to_string(), "model `b`: /secret/place: broken");
}

/// However short it may stay, whoever asked is answered.
#[tokio::test]
async fn a_model_stays_for_whom_it_came() {
    let shelf = Arc::new(Shelf::of(&["a", "b"]));
    let mut config = config(Some(60));
    config.unload_after = Some(Duration::ZERO);
    let router = router(&shelf, config);
    let all = (0..16).map(|at| {
        let router = router.clone();
        let model = ["a", "b"][at % 2];
        tokio::spawn(async move {
            loop {
                let answer = post(&router, CHAT, asking(model)).await;
                // The other one is in use.
                if answer.status == 503 {
                    assert_eq!(answer.error().2, "model_memory");
                    tokio::task::yield_now().await;
                    continue;
                }
                assert_eq!(answer.ok()["model"], model);
                return;
            }
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap();
    }
}
