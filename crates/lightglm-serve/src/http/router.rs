//! `Server`: the routes, and what lies around them.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, Method, header};
use axum::middleware::from_fn_with_state;
use lightglm_text::ChatText;
use tokio::net::TcpListener;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::access::{Access, Route, RouteAccess};
use super::config::{ServerConfig, ServerConfigError, origin_value};
use super::constrain::Constrain;
use super::error::ApiError;
use super::openai::{chat, completions, embeddings, models};
use super::shorten::shortened;
use super::state::AppState;
use super::{adapters, answer, around, auth, health, metrics, openapi, page, tokenize};
use crate::engine::EngineApi;

/// A server that is ready to run.
pub struct Server {
    config: ServerConfig,
    engine: Arc<dyn EngineApi>,
    text: Arc<dyn ChatText>,
    constrain: Option<Arc<dyn Constrain>>,
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
        Ok(Self { config, engine, text, constrain: None, cors })
    }

    /// The server with structured output: `response_format`, grammars, tool calls that are a must.
    #[must_use]
    pub fn with_constrain(mut self, constrain: Arc<dyn Constrain>) -> Self {
        self.constrain = Some(constrain);
        self
    }

    /// All routes, and what each asks of a key. A path that is none of them asks for a user's.
    pub fn routes() -> Vec<RouteAccess> {
        routes().into_iter().map(|route| route.named).collect()
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
        let state = AppState::new(self.config, self.engine, self.text, self.constrain);
        let mut router = routed(&state)
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

/// Each with what it asks of a key; the OpenAPI document and the tests read it here.
fn routes() -> Vec<Route> {
    use Access::{Admin, Generate, Metrics, Open, User};

    vec![
        Route::post("/v1/chat/completions", Generate, chat::chat),
        Route::post("/v1/completions", Generate, completions::completions),
        Route::get("/v1/models", User, models::list),
        // Names have slashes in them.
        Route::get("/v1/models/{*model}", User, models::get),
        Route::post("/v1/embeddings", Generate, embeddings::embeddings),
        Route::post("/v1/load_lora_adapter", Admin, adapters::load),
        Route::post("/v1/unload_lora_adapter", Admin, adapters::unload),
        Route::post("/answer", Generate, answer::answer),
        Route::post("/tokenize", User, tokenize::tokenize),
        Route::post("/detokenize", User, tokenize::detokenize),
        Route::get("/health", Open, health::health),
        Route::get("/ready", Open, health::ready),
        Route::get("/metrics", Metrics, metrics::metrics),
        Route::get("/openapi.json", User, openapi::openapi),
        Route::get("/docs", User, page::docs),
        Route::get("/docs/", User, page::docs_index),
        Route::get("/docs/{*path}", User, page::docs_file),
        Route::get("/", User, page::index),
        Route::get("/page/{file}", User, page::page_file),
    ]
}

fn routed(state: &AppState) -> Router<AppState> {
    routes().into_iter().fold(Router::new(), |router, Route { named, handler }| {
        let layer = from_fn_with_state((state.clone(), named.access), auth::require_access);
        router.route(named.path, handler.route_layer(layer))
    })
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
