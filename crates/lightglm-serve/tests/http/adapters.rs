//! Adapters by name.

use std::time::Duration;

use serde_json::json;

use crate::client::{CHAT, chat, config, get, post, router, server};
use crate::scripted::Scripted;

const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";

#[tokio::test]
async fn adapters_come_and_go() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let name = json!({"lora_name": "new-1.0"});
    let reply = post(&router, LOAD, name.clone()).await.ok();
    assert_eq!(reply, json!({"lora_name": "new-1.0", "status": "loaded"}));
    post(&router, CHAT, chat(json!({"model": "new-1.0"}))).await.ok();
    assert_eq!(engine.one().model.as_deref(), Some("new-1.0"));
    let error = post(&router, LOAD, name.clone()).await.error();
    assert_eq!(error, (409, "lora_name".into(), "adapter_already_loaded".into()));
    post(&router, UNLOAD, name.clone()).await.ok();
    let error = post(&router, UNLOAD, name).await.error();
    assert_eq!(error, (404, "lora_name".into(), "adapter_not_loaded".into()));
    assert_eq!(get(&router, "/v1/models/new-1.0").await.status, 404);
}

#[tokio::test]
async fn names_are_names() {
    let engine = Scripted::saying("x");
    let router = router(&engine);
    let long = "a".repeat(65);
    for name in ["", "..", ".hidden", "a/b", "../a", "a b", "a\u{0}", "é", "toy", &long] {
        let error = post(&router, LOAD, json!({"lora_name": name})).await.error();
        assert_eq!(error, (400, "lora_name".into(), "invalid_value".into()), "{name:?}");
    }
    let answer = post(&router, LOAD, json!({"lora_name": "broken"})).await;
    assert_eq!(answer.error(), (400, "lora_name".into(), "adapter_not_loadable".into()));
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    let answer = post(&router, LOAD, json!({"lora_name": "unfit"})).await;
    assert_eq!(answer.error(), (400, "lora_name".into(), "adapter_not_loadable".into()));
    assert!(answer.text.contains("field `use_dora` is true"), "{}", answer.text);
}

#[tokio::test]
async fn nobody_waits_for_ever_for_an_adapter() {
    let engine = Scripted::saying("x");
    let mut config = config();
    config.limits.request_timeout = Duration::from_millis(50);
    let router = server(&engine, config).router();
    let (slow, next) = tokio::join!(
        post(&router, LOAD, json!({"lora_name": "slow"})),
        post(&router, LOAD, json!({"lora_name": "next"})),
    );
    for answer in [slow, next] {
        assert_eq!(answer.error(), (408, String::new(), "timeout".into()));
    }
}
