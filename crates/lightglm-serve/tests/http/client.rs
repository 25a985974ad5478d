//! Calls through the router, without a socket.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use lightglm_serve::engine::EngineApi;
use lightglm_serve::http::{Constrain, Server, ServerConfig};
use serde_json::Value;
use tower::ServiceExt;

use crate::toy_text::ToyText;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a success.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }

    /// The text of a success.
    pub(crate) fn ok_text(&self) -> &str {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        &self.text
    }

    /// Status, `param` and `code` of an error in OpenAI's shape.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("{self:?}"));
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert!(error["type"].is_string() && error.len() == 4, "{self:?}");
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("param"), text("code"))
    }

    /// The JSON of all events, of which the last is `[DONE]`.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "text/event-stream");
        let events = self.text.strip_suffix("data: [DONE]\n\n").expect("an end");
        let data = events.split_terminator("\n\n").map(|event| {
            let data = event.strip_prefix("data: ").unwrap_or_else(|| panic!("{event:?}"));
            serde_json::from_str(data).unwrap()
        });
        data.collect()
    }
}

pub(crate) fn config() -> ServerConfig {
    ServerConfig::new("toy")
}

/// A server whose replies can be made to follow something.
pub(crate) fn constrained(
    engine: &Arc<impl EngineApi>,
    config: ServerConfig,
    constrain: Arc<dyn Constrain>,
) -> Server {
    let text = Arc::new(ToyText::new());
    Server::of_model(config, engine.clone(), text, Some(constrain)).unwrap()
}

pub(crate) fn server(engine: &Arc<impl EngineApi>, config: ServerConfig) -> Server {
    Server::new(config, engine.clone(), Arc::new(ToyText::new())).unwrap()
}

pub(crate) fn router(engine: &Arc<impl EngineApi>) -> Router {
    server(engine, config()).router()
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

pub(crate) async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

pub(crate) async fn post_text(router: &Router, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    send(router, request.body(body.into()).unwrap()).await
}

pub(crate) async fn post(router: &Router, path: &str, body: Value) -> Answer {
    post_text(router, path, body.to_string()).await
}

/// A request that says `hi`, with more fields.
pub(crate) fn chat(fields: Value) -> Value {
    let mut body = serde_json::json!({"messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const COMPLETIONS: &str = "/v1/completions";
