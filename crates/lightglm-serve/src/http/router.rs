//! `Server`: the routes, and what lies around them.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, Method, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use lightglm_text::ChatText;
use tokio::net::TcpListener;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::config::{ServerConfig, ServerConfigError, origin_value};
use super::constrain::Constrain;
use super::embedder::{Encoders, Named, TextEmbedder, TextReranker};
use super::error::ApiError;
use super::openai::{chat, completions, embeddings, models};
use super::shorten::shortened;
use super::state::AppState;
use super::{adapters, answer, around, auth, health, metrics, openapi, page, rerank, tokenize};
use crate::engine::EngineApi;

/// A server that is ready to run.
pub struct Server {
    config: ServerConfig,
    engine: Arc<dyn EngineApi>,
    text: Arc<dyn ChatText>,
    constrain: Option<Arc<dyn Constrain>>,
    encoders: Encoders,
    cors: Option<CorsLayer>,
}

impl Server {
    /// A server of `engine`, whose model reads and writes by `text`.
    ///
    /// # Errors
    /// [`ServerConfigError`].
    pub fn new(
        config: ServerConfig,
        engine: Arc<dyn EngineApi>,
        text: Arc<dyn ChatText>,
    ) -> Result<Self, ServerConfigError> {
        config.check()?;
        let cors = cors(&config.cors_origins)?;
        Ok(Self { config, engine, text, constrain: None, encoders: Encoders::default(), cors })
    }

    /// The server with embeddings: `/v1/embeddings` by an encoder that requests call `name`, and `/v1/rerank`
    /// by the cosine of its vectors, unless there is a [reranker](Self::with_reranker).
    #[must_use]
    pub fn with_embedder(mut self, name: impl Into<String>, model: Arc<dyn TextEmbedder>) -> Self {
        self.encoders.embedder = Some(Named { name: name.into(), model });
        self
    }

    /// The server with `/v1/rerank` by an encoder that reads query and document together.
    #[must_use]
    pub fn with_reranker(mut self, name: impl Into<String>, model: Arc<dyn TextReranker>) -> Self {
        self.encoders.reranker = Some(Named { name: name.into(), model });
        self
    }

    /// The server with structured output: `response_format`, grammars, tool calls that are a must.
    #[must_use]
    pub fn with_constrain(mut self, constrain: Arc<dyn Constrain>) -> Self {
        self.constrain = Some(constrain);
        self
    }

    /// The routes, for a program that has its own way to serve them. The limits on connections,
    /// headers and writes are [`Server::serve`]'s, and so is draining.
    pub fn router(self) -> Router {
        self.parts().1
    }

    /// Serves `listener` until `shutdown`, then finishes what runs and returns.
    ///
    /// After `shutdown`, `/ready` and new requests get a 503; the listener closes when nothing runs any
    /// more, or at the end of [`ServerConfig::drain_timeout`], which cancels what still runs.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (state, router) = self.parts();
        super::serve::serve(state, router, listener, shutdown).await
    }

    fn parts(self) -> (AppState, Router) {
        let (constrain, encoders) = (self.constrain, self.encoders);
        let state = AppState::new(self.config, self.engine, self.text, constrain, encoders);
        let mut router = routes()
            .fallback(unknown_path)
            .method_not_allowed_fallback(unknown_method)
            .layer(from_fn_with_state(state.clone(), auth::require_key));
        if let Some(cors) = self.cors {
            router = router.layer(cors);
        }
        let router = router
            .layer(from_fn_with_state(state.clone(), around::surround))
            .with_state(state.clone());
        (state, router)
    }
}

fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/models", get(models::list))
        // Names have slashes in them.
        .route("/v1/models/{*model}", get(models::get))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/v1/load_lora_adapter", post(adapters::load))
        .route("/v1/unload_lora_adapter", post(adapters::unload))
        .route("/answer", post(answer::answer))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/docs", get(page::docs))
        .route("/docs/", get(page::docs_index))
        .route("/docs/{*path}", get(page::docs_file))
        .route("/", get(page::index))
        .route("/page/{file}", get(page::page_file))
}

fn cors(origins: &[String]) -> Result<Option<CorsLayer>, ServerConfigError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let values = origins.iter().map(|origin| origin_value(origin));
        AllowOrigin::list(values.collect::<Result<Vec<_>, _>>()?)
    };
    let request_id = HeaderName::from_static("x-request-id");
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, request_id.clone()])
        .expose_headers([header::RETRY_AFTER, request_id]);
    Ok(Some(layer))
}

async fn unknown_path(request: Request) -> ApiError {
    ApiError::UnknownPath { path: shortened(request.uri().path()) }
}

async fn unknown_method(request: Request) -> ApiError {
    let method = shortened(request.method().as_str());
    ApiError::Method { method, path: shortened(request.uri().path()) }
}
