//! Tenants: keys with names, rights and quotas, from a file that may change while the server runs.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use lightglm_serve::http::{
    Access, KeyDigest, KeysFileError, Role, Server, Tenant, TenantError, Tenants,
};
use serde_json::{Value, json};

use crate::client::{Answer, CHAT, COMPLETIONS, chat, config, get, send, server};
use crate::scripted::{Script, Scripted, wait_for};

fn tenant(name: &str, change: impl FnOnce(&mut Tenant)) -> Tenant {
    let mut tenant = Tenant::new(name, KeyDigest::of(format!("key of {name}")));
    change(&mut tenant);
    tenant
}

fn served(engine: &Arc<Scripted>, tenants: &Tenants) -> Router {
    let mut config = config();
    config.tenants = tenants.clone();
    config.api_keys = vec!["plain".into()];
    server(engine, config).router()
}

async fn ask(router: &Router, name: &str, path: &str, body: Value) -> Answer {
    let request = Request::post(path)
        .header("x-api-key", format!("key of {name}"))
        .header(header::CONTENT_TYPE, "application/json");
    send(router, request.body(Body::from(body.to_string())).unwrap()).await
}

async fn read(router: &Router, name: &str, path: &str) -> Answer {
    let request = Request::get(path).header("api-key", format!("key of {name}"));
    send(router, request.body(Body::empty()).unwrap()).await
}

/// Where nothing ever is.
const STORED: [&str; 2] = ["/v1/responses/{id}", "/v1/responses/{id}/{*rest}"];

/// Whether errors of a path have another API's shape.
fn has_own_shape(path: &str) -> bool {
    path.starts_with("/v1/messages") || path.starts_with("/api/")
}

/// Every route that there is, by the router's own list, for everybody that there is.
#[tokio::test]
async fn every_route_is_for_whom_it_says() {
    let roles = [Role::User, Role::Metrics, Role::Admin];
    let tenants = roles.map(|role| tenant(role.as_str(), |tenant| tenant.role = role));
    let router = served(&Scripted::saying("x"), &Tenants::new(tenants.into()).unwrap());
    let routes = Server::routes();
    assert!(routes.len() >= 19);
    for route in routes {
        let path = route.path.replace("{*model}", "toy").replace("{*path}", "index.css");
        let path = path.replace("{file}", "app.js");
        let call = async |key: Option<&str>| {
            let mut request = Request::builder().method(route.method).uri(&path);
            if let Some(key) = key {
                request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
            }
            send(&router, request.body(Body::empty()).unwrap()).await
        };
        let open = route.access == Access::Open;
        let nothing = STORED.contains(&route.path);
        for (key, code) in [(None, "missing_api_key"), (Some("wrong"), "invalid_api_key")] {
            let answer = call(key).await;
            match open {
                true => assert_eq!(answer.status, 200, "{path}"),
                false if has_own_shape(&path) => assert_eq!(answer.status, 401, "{path}"),
                false => assert_eq!(answer.error(), (401, String::new(), code.into()), "{path}"),
            }
        }
        for role in roles {
            let answer = call(Some(&format!("key of {}", role.as_str()))).await;
            if role.may(route.access) {
                let status = answer.status.as_u16();
                let refused = [401, 403, 405].contains(&status) || status == 404 && !nothing;
                assert!(!refused, "{path} {role:?}: {answer:?}");
            } else {
                assert_eq!(answer.status, 403, "{path} {role:?}");
                assert!(has_own_shape(&path) || answer.error().2 == "role_not_allowed");
            }
        }
        let plain = call(Some("plain")).await.status.as_u16();
        let refused = [401, 403, 405].contains(&plain) || plain == 404 && !nothing;
        assert!(!refused, "{path}: {plain}");
    }
    // What each kind is for, in so many words.
    let may = |role: Role| {
        [Access::Open, Access::User, Access::Generate, Access::Metrics, Access::Admin]
            .map(|access| role.may(access))
    };
    assert_eq!(may(Role::User), [true, true, true, false, false]);
    assert_eq!(may(Role::Metrics), [true, false, false, true, false]);
    assert_eq!(may(Role::Admin), [true; 5]);
}

/// What the document describes is a route, and every route that answers with JSON is described.
#[tokio::test]
async fn the_document_has_the_routes() {
    let router = server(&Scripted::saying("x"), config()).router();
    let document = get(&router, "/openapi.json").await.ok();
    let described = |method: &str, path: &str| {
        let path = path.replace("{*", "{");
        document["paths"][path][method.to_lowercase()].is_object()
    };
    let files = ["/docs", "/docs/{*path}", "/page/{file}"];
    let is_described = |path: &str| !files.contains(&path) && !STORED.contains(&path);
    for route in Server::routes() {
        let expected = is_described(route.path);
        assert_eq!(described(route.method, route.path), expected, "{}", route.path);
    }
    let count: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|item| item.as_object().unwrap().len())
        .sum();
    assert_eq!(count, Server::routes().iter().filter(|route| is_described(route.path)).count());
    // With keys it says who needs none, and what happens to whose key is not enough.
    let router = served(&Scripted::saying("x"), &Tenants::default());
    let request = Request::get("/openapi.json").header("api-key", "plain").body(Body::empty());
    let document = send(&router, request.unwrap()).await.ok();
    for route in Server::routes().iter().filter(|route| is_described(route.path)) {
        let path = route.path.replace("{*", "{");
        let operation = &document["paths"][path][route.method.to_lowercase()];
        let open = route.access == Access::Open;
        assert_eq!(operation["security"] == json!([]), open, "{}", route.path);
        assert_eq!(operation["responses"]["403"].is_object(), !open, "{}", route.path);
    }
}

#[tokio::test]
async fn keys_are_read_where_clients_send_them() {
    let engine = Scripted::saying("x");
    let router = served(&engine, &Tenants::new(vec![tenant("a", |_| {})]).unwrap());
    let key = "key of a";
    let cases: [(&[(&str, &str)], u16); 7] = [
        (&[("x-api-key", key)], 200),
        (&[("api-key", key)], 200),
        (&[("authorization", "Bearer none"), ("x-api-key", key)], 200),
        (&[("authorization", "Bearer key of a"), ("api-key", "none")], 200),
        (&[("x-api-key", "none"), ("api-key", "")], 401),
        (&[("key", key)], 401),
        (&[("x-api-key", "KEY OF A")], 401),
    ];
    for (headers, status) in cases {
        let request = headers.iter().fold(Request::get("/v1/models"), |request, (name, value)| {
            request.header(*name, *value)
        });
        let answer = send(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn models_that_are_not_allowed_do_not_exist() {
    let engine = Scripted::saying("x");
    let tenants = vec![
        tenant("base", |tenant| tenant.models = Some(vec!["toy".into()])),
        tenant("tuned", |tenant| tenant.models = Some(vec!["tuned".into(), "later".into()])),
        tenant("all", |_| {}),
    ];
    let router = served(&engine, &Tenants::new(tenants).unwrap());
    for (name, sees) in
        [("base", vec!["toy"]), ("tuned", vec!["tuned"]), ("all", vec!["toy", "tuned"])]
    {
        let list = read(&router, name, "/v1/models").await.ok();
        let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
        assert_eq!(ids, sees);
        for model in ["toy", "tuned"] {
            let may = sees.contains(&model);
            let one = read(&router, name, &format!("/v1/models/{model}")).await;
            assert_eq!(one.status, if may { 200 } else { 404 });
            let body = json!({"model": model, "question": "hi?"});
            for (path, body) in [(CHAT, chat(json!({"model": model}))), ("/answer", body)] {
                let answer = ask(&router, name, path, body).await;
                match may {
                    true => assert_eq!(answer.status, 200),
                    false => assert_eq!(
                        answer.error(),
                        (404, "model".into(), "model_not_found".into()),
                        "{name} {model} {path}"
                    ),
                }
            }
        }
    }
    // The base model is what a request without `model` asks for.
    assert_eq!(ask(&router, "tuned", CHAT, chat(json!({}))).await.error().0, 404);
}

/// The other APIs' routes know the same models, and nobody learns of another's by them.
#[tokio::test]
async fn the_other_apis_hide_the_same_models() {
    let engine = Scripted::saying("x");
    let base = tenant("base", |tenant| tenant.models = Some(vec!["toy".into()]));
    let router = served(&engine, &Tenants::new(vec![base]).unwrap());
    for path in ["/api/tags", "/api/ps"] {
        let list = read(&router, "base", path).await.ok();
        let names: Vec<_> =
            list["models"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["toy"], "{path}");
    }
    let hi = json!([{"role": "user", "content": "hi"}]);
    for (path, body) in [
        ("/v1/responses", json!({"input": "hi"})),
        ("/v1/messages", json!({"max_tokens": 3, "messages": hi})),
        ("/v1/messages/count_tokens", json!({"messages": hi})),
        ("/api/chat", json!({"messages": hi, "stream": false})),
        // Asks whether the model is there.
        ("/api/chat", json!({"messages": [], "stream": false})),
        ("/api/generate", json!({"prompt": "hi", "stream": false})),
        ("/api/show", json!({})),
    ] {
        for (model, status) in [("toy", 200), ("tuned", 404), ("nobody", 404)] {
            let mut body = body.clone();
            body["model"] = model.into();
            assert_eq!(ask(&router, "base", path, body).await.status, status, "{path} {model}");
        }
    }
}

#[tokio::test]
async fn priorities_and_salts_are_the_tenants() {
    let engine = Scripted::saying("x");
    let tenants = vec![
        tenant("batch", |tenant| tenant.max_priority = Some(-2)),
        tenant("own", |tenant| {
            (tenant.max_priority, tenant.cache_salt) = (Some(3), Some("salt".into()));
        }),
    ];
    let router = served(&engine, &Tenants::new(tenants).unwrap());
    let refused = (403, "priority".into(), "priority_not_allowed".into());
    for (name, priority) in [("batch", -1), ("batch", 10), ("own", 4)] {
        let answer = ask(&router, name, CHAT, chat(json!({"priority": priority}))).await;
        assert_eq!(answer.error(), refused, "{name} {priority}");
    }
    for (name, fields) in [
        ("batch", json!({})),
        ("batch", json!({"priority": -3})),
        ("own", json!({})),
        ("own", json!({"priority": 3})),
    ] {
        ask(&router, name, CHAT, chat(fields)).await.ok();
    }
    let seen = engine.seen();
    let seen = seen.iter().map(|it| (it.key.as_str(), it.priority, it.cache_salt.as_str()));
    let expected = [
        ("tenant:batch", -2, ""),
        ("tenant:batch", -3, ""),
        ("tenant:own", 0, "salt"),
        ("tenant:own", 3, "salt"),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_quota_that_is_used_up_stops_generating_alone() {
    let engine = Scripted::saying("hello");
    let tenants = Tenants::new(vec![
        tenant("small", |tenant| tenant.tokens_per_day = Some(20)),
        tenant("other", |_| {}),
    ]);
    let tenants = tenants.unwrap();
    let router = served(&engine, &tenants);
    let body = || json!({"prompt": "ab", "max_tokens": 3});
    let mut used = 0;
    let refused = loop {
        let answer = ask(&router, "small", COMPLETIONS, body()).await;
        assert_eq!(answer.headers["x-ratelimit-limit-tokens"], "20");
        if answer.status != 200 {
            break answer;
        }
        assert!(used < 20, "it goes on with {used} used");
        used += answer.ok()["usage"]["total_tokens"].as_u64().unwrap();
        let (path, left) = ("/v1/models", 20u64.saturating_sub(used));
        let said = answer.headers["x-ratelimit-remaining-tokens"].to_str().unwrap();
        assert_eq!(said, left.to_string());
        read(&router, "small", path).await.ok();
    };
    assert_eq!(refused.error(), (429, String::new(), "quota_exceeded".into()));
    let retry: u64 = refused.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=2 * 86_400).contains(&retry));
    let seen = engine.seen().len();
    for path in [CHAT, COMPLETIONS, "/answer"] {
        assert_eq!(ask(&router, "small", path, json!({})).await.error().2, "quota_exceeded");
    }
    assert_eq!(engine.seen().len(), seen, "before any work");
    read(&router, "small", "/v1/models").await.ok();
    ask(&router, "small", "/tokenize", json!({"text": "x"})).await.ok();
    let free = ask(&router, "other", COMPLETIONS, body()).await;
    assert!(free.status == 200 && !free.headers.contains_key("x-ratelimit-limit-tokens"));
    // What is used stays so where the entry changes, and a larger quota is one at once.
    tenants.replace(vec![tenant("small", |it| it.tokens_per_day = Some(10))]).unwrap();
    assert_eq!(ask(&router, "small", COMPLETIONS, body()).await.error().0, 429);
    tenants.replace(vec![tenant("small", |it| it.tokens_per_day = Some(1000))]).unwrap();
    ask(&router, "small", COMPLETIONS, body()).await.ok();
}

/// A key that is nothing is nobody's, and every request without one would have it.
#[tokio::test]
async fn nothing_is_no_key() {
    let mut empty = tenant("empty", |_| {});
    empty.key = KeyDigest::of("");
    assert!(Tenants::new(vec![empty]).is_err());
    let router = served(&Scripted::saying("x"), &Tenants::default());
    let request = Request::get("/v1/models").header("x-api-key", "").body(Body::empty());
    assert_eq!(send(&router, request.unwrap()).await.error().2, "missing_api_key");
}

/// Who goes away pays for what was made, also where nobody read it.
#[test]
fn what_was_given_up_is_paid_for() {
    let engine = Scripted::following(Script::Forever(std::time::Duration::from_millis(1)));
    let tenants = vec![tenant("gone", |tenant| tenant.tokens_per_day = Some(10_000))];
    let router = served(&engine, &Tenants::new(tenants).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left = || {
        let answer = runtime.block_on(ask(&router, "gone", CHAT, json!({})));
        answer.headers["x-ratelimit-remaining-tokens"].to_str().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(left(), 10_000);
    for stream in [false, true] {
        let before = left();
        let wait = ask(&router, "gone", CHAT, chat(json!({"stream": stream})));
        let patience = std::time::Duration::from_millis(200);
        let ended = runtime.block_on(async { tokio::time::timeout(patience, wait).await.is_err() });
        assert!(ended, "it has no end");
        wait_for("the end", || engine.open() == 0);
        assert!(left() < before - 20, "{} of {before}", left());
    }
}

fn written(name: &str, text: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("lightglm-keys-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn entry(name: &str, fields: &str) -> String {
    let digest = KeyDigest::of(format!("key of {name}"));
    format!("[[key]]\nname = \"{name}\"\nsha256 = \"{digest}\"\n{fields}\n")
}

#[tokio::test]
async fn a_file_is_read_anew_and_a_bad_one_is_not() {
    let text = entry("支持", "role = \"admin\"\ntokens-per-minute = 1_000\nmax-priority = -1\n")
        + &entry("b", "models = [\"toy\"]\ncache-salt = \"s\"\ntokens-per-day = 5");
    let path = written("anew.toml", &text);
    let tenants = Tenants::from_file(&path).unwrap();
    assert_eq!(format!("{tenants:?}"), "[\"支持\", \"b\"]");
    let router = served(&Scripted::saying("x"), &tenants);
    read(&router, "支持", "/metrics").await.ok_text();
    read(&router, "b", "/v1/models").await.ok();
    let again = written("anew.toml", &entry("b", "role = \"metrics\""));
    tenants.reload(&again).unwrap();
    assert_eq!(read(&router, "支持", "/v1/models").await.error().2, "invalid_api_key");
    assert_eq!(read(&router, "b", "/v1/models").await.error().2, "role_not_allowed");
    for bad in ["", "# nothing\n", "[[key]]\n", "key = 1\n", &entry("b", "rule = \"user\"")] {
        assert!(tenants.reload(written("anew.toml", bad)).is_err(), "{bad}");
        assert_eq!(read(&router, "b", "/v1/models").await.error().2, "role_not_allowed");
    }
    assert!(matches!(tenants.reload("/no/such/file"), Err(KeysFileError::Read { .. })));
}

#[test]
fn a_bad_file_is_told_by_line_entry_and_field() {
    let good = entry("a", "");
    let cases = [
        (good.clone() + &entry("b", "role = \"root\""), 8, "entry 2 (`b`): role: it must be"),
        (good.clone() + &entry("b", "rule = \"user\""), 8, "entry 2 (`b`): rule: unknown"),
        (good.clone() + &entry("b", "tokens-per-day = 0"), 5, "entry 2 (`b`): tokens-per-day:"),
        (good.clone() + &entry("b", "tokens-per-minute = -1"), 8, "tokens-per-minute: it must be"),
        (good.clone() + &entry("b", "tokens-per-minute = \"9\""), 8, "tokens-per-minute:"),
        (good.clone() + &entry("b", "max-priority = 1.5"), 8, "max-priority:"),
        (good.clone() + &entry("b", "models = \"toy\""), 8, "models: it must be a list"),
        (good.clone() + &entry("b", "models = [1]"), 8, "models: it must be a list"),
        (good.clone() + &entry("b", "models = []"), 5, "models: it must name one"),
        (good.clone() + &entry("b", "cache-salt = \"\""), 5, "cache-salt: it is empty"),
        (good.clone() + &good, 5, "entry 2 (`a`): name: another"),
        (good.clone() + &good.replace("\"a\"", "\"c\""), 5, "sha256: `a` has the same key"),
        (good.clone() + "[[key]]\nname = \"b\"\n", 5, "entry 2 (`b`): sha256: it is missing"),
        (good.clone() + "[[key]]\nsha256 = \"ab\"\n", 5, "entry 2 (``): name: it is missing"),
        ("[[key]]\nname = \"b\"\nsha256 = \"ab\"\n".into(), 3, "sha256: it must be 64"),
        (entry("a b", ""), 1, "name: it must be 1 to 64"),
        (entry("api-key-0", ""), 1, "name: `api-key-`"),
        (good.clone() + "[limits]\n", 5, "unknown key `limits`"),
        (good.clone() + "name = \"b\"\n", 5, ""),
        ("[key]\nname = \"a\"\n".into(), 1, "write [[key]]"),
        ("key = [\n".into(), 0, ""),
    ];
    for (number, (text, line, words)) in cases.into_iter().enumerate() {
        let path = written(&format!("bad-{number}.toml"), &text);
        let error = Tenants::from_file(&path).unwrap_err().to_string();
        let place = match line {
            0 => path.display().to_string(),
            line => format!("{}:{line}: ", path.display()),
        };
        assert!(error.starts_with(&place) && error.contains(words), "{error}\n{text}");
    }
    assert!(matches!(Tenants::new(Vec::new()), Err(TenantError::Empty)));
}
