//! `Server`: the routes, and what lies around them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use lightglm_text::ChatText;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::config::{ServerConfig, ServerConfigError, origin_value};
use super::connections::{Listeners, refuse};
use super::constrain::Constrain;
use super::encoders::embedder::{Encoders, Named, TextEmbedder, TextReranker};
use super::encoders::rerank;
use super::error::ApiError;
use super::keys::access::{Access, Route, RouteAccess};
use super::keys::auth;
use super::models::{
    Library, LibraryOptions, LoadedModel, ModelEntry, ModelRepository, ModelsError, Single,
};
use super::openai::{chat, completions, embeddings, models, transcriptions};
use super::paths::{Paths, without_slash};
use super::request_log::around;
use super::shorten::shortened;
use super::state::AppState;
use super::{
    adapters, answer, anthropic, dialect, health, metrics, ollama, openapi, page, responses,
    tokenize,
};
use crate::engine::EngineApi;

/// How long a browser may remember what it may send; Chromium's most.
const PREFLIGHT_AGE: Duration = Duration::from_secs(7200);

/// A server that is ready to run.
pub struct Server {
    config: ServerConfig,
    library: Arc<Library>,
    encoders: Encoders,
    cors: Option<CorsLayer>,
}

impl Server {
    /// A server of `engine`, whose model reads and writes by `text`, without structured output.
    ///
    /// # Errors
    /// [`ServerConfigError`].
    pub fn new(
        config: ServerConfig,
        engine: Arc<dyn EngineApi>,
        text: Arc<dyn ChatText>,
    ) -> Result<Self, ServerConfigError> {
        Self::of_model(config, engine, text, None)
    }

    /// As [`Server::new`], with structured output: `response_format`, grammars, tool calls that are a must.
    ///
    /// # Errors
    /// [`ServerConfigError`].
    pub fn of_model(
        config: ServerConfig,
        engine: Arc<dyn EngineApi>,
        text: Arc<dyn ChatText>,
        constrain: Option<Arc<dyn Constrain>>,
    ) -> Result<Self, ServerConfigError> {
        let entry = ModelEntry {
            name: config.model_name.clone(),
            aliases: config.aliases.clone(),
            created: config.created,
            ..ModelEntry::default()
        };
        let sampling = config.sampling.clone();
        let owner = Box::new(());
        let model = LoadedModel { engine, text, constrain, media: None, sampling, owner };
        Self::of_models(config, Arc::new(Single::new(entry, model)))
    }

    /// A server of all models of `repository`, each of which comes when a request names it, within
    /// [`ServerConfig::model_memory`]. Those that are to stay are loaded now.
    ///
    /// # Errors
    /// [`ServerConfigError`], [`ServerConfigError::Models`] among them.
    pub fn of_models(
        config: ServerConfig,
        repository: Arc<dyn ModelRepository>,
    ) -> Result<Self, ServerConfigError> {
        config.check()?;
        let cors = cors(&config.cors_origins)?;
        let options = LibraryOptions {
            memory: config.model_memory,
            unload_after: config.unload_after,
            adapters: config.limits.adapters,
        };
        let library = Library::open(repository, options)?;
        let default = &config.model_name;
        if !default.is_empty() && library.named(default).is_none() {
            return Err(ModelsError::Default { name: default.clone() }.into());
        }
        Ok(Self { config, library, encoders: Encoders::default(), cors })
    }

    /// The models, whether they are loaded or not.
    pub fn models(&self) -> &[ModelEntry] {
        self.library.entries()
    }

    /// Bytes that models may take together.
    pub fn model_memory(&self) -> Option<u64> {
        self.config.model_memory
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

    /// All routes, and what each asks of a key. A path that is none of them asks for a user's.
    pub fn routes() -> Vec<RouteAccess> {
        routes().into_iter().map(|route| route.named).collect()
    }

    /// The routes, for a program that has its own way to serve them. The limits on connections,
    /// headers and writes are [`Server::serve`]'s, and so are the check of `Host` and draining.
    pub fn router(self) -> Router {
        self.parts().1
    }

    /// Serves `listeners` until `shutdown`, then finishes what runs and returns. A
    /// [`TcpListener`](tokio::net::TcpListener) will do.
    ///
    /// After `shutdown`, `/ready` and new requests get a 503; the listener closes when nothing runs any
    /// more, or at the end of [`ServerConfig::drain_timeout`], which cancels what still runs.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn serve(
        self,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (state, router) = self.parts();
        super::serve::serve(state, router, listeners.into(), shutdown).await
    }

    fn parts(self) -> (AppState, Router) {
        let state = AppState::new(self.config, self.library, self.encoders);
        let paths = Arc::new(Paths::of(&state.openapi));
        let unknown_path = async move |request: Request| paths.unknown(request.uri().path());
        let mut router = routed(&state)
            .fallback(unknown_path)
            .method_not_allowed_fallback(unknown_method)
            .layer(from_fn_with_state(state.clone(), auth::require_key));
        if let Some(cors) = self.cors {
            router = router.layer(cors);
        }
        let router = router
            .layer(from_fn_with_state(state.clone(), refuse))
            .layer(from_fn_with_state(state.clone(), around::surround))
            .layer(from_fn(dialect::shape_errors))
            .with_state(state.clone());
        (state, without_slash(router))
    }
}

/// Each with what it asks of a key; the OpenAPI document and the tests read it here.
fn routes() -> Vec<Route> {
    use Access::{Admin, Generate, Metrics, Open, User};

    vec![
        Route::post("/v1/chat/completions", Generate, chat::chat),
        Route::post("/v1/completions", Generate, completions::completions),
        Route::post("/v1/responses", Generate, responses::create),
        Route::get("/v1/responses/{id}", User, responses::stored),
        Route::delete("/v1/responses/{id}", User, responses::stored),
        Route::get("/v1/responses/{id}/{*rest}", User, responses::stored),
        Route::post("/v1/responses/{id}/{*rest}", User, responses::stored),
        Route::post("/v1/messages", Generate, anthropic::messages),
        Route::post("/v1/messages/count_tokens", User, anthropic::count_tokens),
        Route::post("/api/chat", Generate, ollama::chat),
        Route::post("/api/generate", Generate, ollama::generate),
        Route::get("/api/tags", User, ollama::tags),
        Route::get("/api/ps", User, ollama::running),
        Route::post("/api/show", User, ollama::show),
        Route::get("/api/version", User, ollama::version),
        Route::get("/v1/models", User, models::list),
        // Names have slashes in them.
        Route::get("/v1/models/{*model}", User, models::get),
        Route::post("/v1/embeddings", Generate, embeddings::embeddings),
        Route::post("/v1/rerank", Generate, rerank::rerank),
        Route::post("/v1/audio/transcriptions", Generate, transcriptions::transcriptions),
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
    let not_enforced = HeaderName::from_static("x-lightglm-not-enforced");
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        // Whatever a client library sends: openai-node has seven of its own.
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(PREFLIGHT_AGE)
        .expose_headers([header::RETRY_AFTER, request_id, not_enforced]);
    Ok(Some(layer))
}

async fn unknown_method(request: Request) -> ApiError {
    let method = shortened(request.method().as_str());
    ApiError::Method { method, path: shortened(request.uri().path()) }
}
