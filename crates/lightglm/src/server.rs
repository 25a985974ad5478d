//! `Server`: a model behind an OpenAI-compatible HTTP API (feature `serve`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use axum;
use axum::{Extension, Router};
use lightglm_core::{KV_BLOCK, KvShape};
use lightglm_generation::SamplingParams;
use lightglm_serve::engine::{EngineConfig, EngineHandle, EngineThread};
use lightglm_serve::http::{self, ServerConfig};
pub use lightglm_serve::http::{
    Access, HttpLimits, KeyDigest, KeysFileError, Listeners, Role, Tenant, TenantError, Tenants,
};
#[cfg(feature = "tls")]
pub use lightglm_serve::http::{Tls, TlsError};
use lightglm_text::ChatText;
use tokio::net::{TcpListener, ToSocketAddrs};

use crate::embedding::{Embedder, Reranker};
use crate::error::Error;
use crate::model::{LoadOptions, Model, Sparsity};

/// How much of the machine a server may take, and whom it answers. The defaults suit a small company's
/// one machine: 32 requests at a time, no keys.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The model's name in requests; if omitted the model's own.
    pub model_name: Option<String>,
    /// Bytes for keys and values; if omitted what `max_running` requests of 1024 tokens need, and one
    /// of the longest.
    pub kv_memory: Option<usize>,
    /// Requests that run at the same time, at least 1.
    pub max_running: usize,
    /// Requests that wait, at least 1; more get a 429.
    pub max_waiting: usize,
    /// Requests of one API key (or user) that wait or run, at least 1; if omitted any number.
    pub max_open_per_key: Option<usize>,
    /// Tokens of one forward pass, at least 1.
    pub token_budget: usize,
    /// Whether tokens are guessed ahead where there is time for it.
    pub speculation: bool,
    /// Keys that may do everything, beside those of `tenants`; with neither, everybody may use the server.
    pub api_keys: Vec<String>,
    /// Keys with names, rights and quotas. A clone of it changes them while the server runs.
    pub tenants: Tenants,
    /// Whether the log has the prompts, beside what it says of every request.
    pub log_prompts: bool,
    /// Origins whose pages may call the server from a browser; `*` is any.
    pub cors_origins: Vec<String>,
    /// Names under which clients reach the server: `name`, `name:port`, `*.name`, or `*` for any. With none, a
    /// server without keys on a loopback address answers to this machine's own names alone.
    pub allowed_hosts: Vec<String>,
    /// How much a request may ask.
    pub limits: HttpLimits,
    /// What a request gets where it does not say; if omitted as the model's configuration says.
    pub sampling: Option<SamplingParams>,
    /// Tokens of a chat's reply where the request does not say; if omitted what `sampling` says, else the
    /// `max_new_tokens` of the model's configuration, else as many as fit the context.
    pub default_max_tokens: Option<usize>,
    /// Whether texts that are longer than an encoder reads lose their end where a request does not say; they
    /// are refused otherwise.
    pub truncate_inputs: bool,
    /// How long running requests may take once the server shuts down.
    pub drain_timeout: Duration,
    /// How long `/ready` says 503 at least before the listener closes.
    pub drain_notice: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        let (engine, http) = (EngineConfig::new(2), ServerConfig::new(""));
        Self {
            model_name: None,
            kv_memory: None,
            max_running: engine.max_running,
            max_waiting: engine.max_waiting,
            max_open_per_key: engine.max_open_per_key,
            token_budget: engine.token_budget,
            speculation: engine.speculation.is_some(),
            api_keys: http.api_keys,
            tenants: http.tenants,
            log_prompts: http.log_prompts,
            cors_origins: http.cors_origins,
            allowed_hosts: http.allowed_hosts,
            limits: http.limits,
            sampling: None,
            default_max_tokens: None,
            truncate_inputs: http.truncate_inputs,
            drain_timeout: http.drain_timeout,
            drain_notice: http.drain_notice,
        }
    }
}

impl ServerOptions {
    /// Says what is wrong, before a model is loaded in vain; [`Server::new`] asks again.
    ///
    /// # Errors
    /// [`Error::Option`] and [`Error::Server`].
    pub fn check(&self) -> Result<(), Error> {
        let counts = [
            ("max_running", self.max_running),
            ("max_waiting", self.max_waiting),
            ("max_open_per_key", self.max_open_per_key.unwrap_or(1)),
            ("token_budget", self.token_budget),
            ("default_max_tokens", self.default_max_tokens.unwrap_or(1)),
        ];
        for (option, count) in counts {
            if count == 0 {
                return Err(wrong(option, "must be at least 1"));
            }
        }
        if let Some(sampling) = &self.sampling {
            sampling.validate()?;
        }
        Ok(self.http("").check()?)
    }

    fn http(&self, name: &str) -> ServerConfig {
        let mut config = ServerConfig::new(self.model_name.clone().unwrap_or(name.to_owned()));
        config.api_keys.clone_from(&self.api_keys);
        config.tenants = self.tenants.clone();
        config.log_prompts = self.log_prompts;
        config.cors_origins.clone_from(&self.cors_origins);
        config.allowed_hosts.clone_from(&self.allowed_hosts);
        config.limits = self.limits.clone();
        config.truncate_inputs = self.truncate_inputs;
        config.drain_timeout = self.drain_timeout;
        config.drain_notice = self.drain_notice;
        config
    }

    fn engine(&self, max_positions: usize) -> EngineConfig {
        let mut config = EngineConfig::new(max_positions);
        config.max_running = self.max_running;
        config.max_waiting = self.max_waiting;
        config.max_open_per_key = self.max_open_per_key;
        config.token_budget = self.token_budget;
        if !self.speculation {
            config.speculation = None;
        }
        config
    }

    /// Blocks of keys and values, `per_block` bytes each.
    fn blocks(&self, max_context: usize, per_block: usize) -> Result<usize, Error> {
        let blocks = match self.kv_memory {
            Some(bytes) => bytes / per_block,
            None => {
                let typical = max_context.min(1024).div_ceil(KV_BLOCK);
                self.max_running.saturating_mul(typical).max(max_context.div_ceil(KV_BLOCK))
            }
        };
        if blocks == 0 {
            let reason = format!("too little for {KV_BLOCK} tokens, which take {per_block} bytes");
            return Err(wrong("kv_memory", &reason));
        }
        if blocks >= u32::MAX as usize {
            let reason = format!("{blocks} blocks of keys and values are more than there can be");
            return Err(wrong("kv_memory", &reason));
        }
        Ok(blocks)
    }
}

/// When a model's file or folder was last written to: seconds since 1970, 0 where that cannot be known.
fn made_at(path: &Path) -> u64 {
    let written = std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let since = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

fn wrong(option: &'static str, reason: &str) -> Error {
    Error::Option { option, reason: reason.to_owned() }
}

/// A model behind OpenAI's API, `/answer`, and a web page.
///
/// ```no_run
/// # use lightglm::{LoadOptions, Model, Server, ServerOptions, Weights};
/// # async fn run() -> Result<(), lightglm::Error> {
/// let int8 = LoadOptions { weights: Weights::scheme("int8")?, ..Default::default() };
/// let model = Model::open("model.gguf", int8)?;
/// let server = Server::new(model, ServerOptions::default())?;
/// server.serve("127.0.0.1:8080", std::future::pending()).await
/// # }
/// ```
pub struct Server {
    http: http::Server,
    engine: EngineThread,
    kv_bytes: usize,
}

impl Server {
    /// Starts the engine of `model`, on a thread of its own.
    ///
    /// Adapters are those of the model's [`LoadOptions::adapters`](crate::LoadOptions::adapters). With
    /// the feature `structured`, replies can be made to follow schemas and grammars.
    ///
    /// # Errors
    /// Where an option is out of range, and where the model was opened with what belongs to a single
    /// conversation: a page budget, or neurons chosen by the prompt.
    pub fn new(model: Model, options: ServerOptions) -> Result<Self, Error> {
        options.check()?;
        let loaded = model.options();
        Self::check_model(loaded)?;
        let shape = KvShape::of(model.config());
        let per_block = KV_BLOCK * shape.bytes_per_position(loaded.kv_dtype);
        let blocks = options.blocks(model.max_context(), per_block)?;
        let engine = model.inner.runtime.engine(
            blocks,
            shape,
            loaded.kv_dtype,
            options.engine(model.max_context()),
        );
        let engine = engine.map_err(|source| Error::EngineThread { source })?;
        let mut config = options.http(model.name());
        config.sampling = match options.sampling.clone() {
            Some(sampling) => sampling,
            None => {
                let own = model.inner.checkpoint.generation_config()?.max_new_tokens;
                let max_tokens = own.map_or(usize::MAX, |most| most.max(1));
                SamplingParams { max_tokens, ..model.sampling().clone() }
            }
        };
        if let Some(most) = options.default_max_tokens {
            config.sampling.max_tokens = most;
            config.sampling.min_tokens = config.sampling.min_tokens.min(most);
        }
        config.created = made_at(model.inner.checkpoint.path());
        let text: Arc<dyn ChatText> = model.inner.text.clone();
        let handle = engine.handle();
        let http = http::Server::new(config, Arc::new(handle.clone()), Arc::clone(&text))?;
        #[cfg(feature = "structured")]
        let http = {
            use lightglm_serve::structured::{GrammarVocabulary, StructuredLimits};

            let vocabulary = GrammarVocabulary::new(&*text, handle.limits().vocab_size)?;
            let structured = http::Structured::new(vocabulary, StructuredLimits::default());
            http.with_constrain(Arc::new(structured))
        };
        Ok(Self { http, engine, kv_bytes: blocks * per_block })
    }

    /// The server with `/v1/embeddings` and, by the cosine of vectors, `/v1/rerank`; requests call the model
    /// by its [name](Embedder::name).
    #[must_use]
    pub fn with_embedder(mut self, embedder: Embedder) -> Self {
        self.http = self.http.with_embedder(embedder.name().to_owned(), Arc::new(embedder));
        self
    }

    /// The server with `/v1/rerank` by a cross-encoder, which requests call by its [name](Reranker::name).
    #[must_use]
    pub fn with_reranker(mut self, reranker: Reranker) -> Self {
        self.http = self.http.with_reranker(reranker.name().to_owned(), Arc::new(reranker));
        self
    }

    /// Refuses what [`Self::new`] refuses, before a model is loaded in vain.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check_model(options: &LoadOptions) -> Result<(), Error> {
        if matches!(options.sparsity, Sparsity::PromptNeurons(_)) {
            return Err(wrong("sparsity", "neurons chosen by a prompt are not for a server"));
        }
        if options.kv_budget.is_some() {
            let reason = "a server attends to all positions, for answers may not depend on company";
            return Err(wrong("kv_budget", reason));
        }
        Ok(())
    }

    /// What the engine is asked through; clones ask the same engine.
    pub fn handle(&self) -> EngineHandle {
        self.engine.handle()
    }

    /// Bytes of keys and values.
    pub fn kv_bytes(&self) -> usize {
        self.kv_bytes
    }

    /// The routes, for an axum app of one's own. The engine ends when the router is dropped.
    pub fn router(self) -> Router {
        // Dropping the last clone waits for the engine's thread.
        self.http.router().layer(Extension(Arc::new(self.engine)))
    }

    /// Listens on `address` until `shutdown`, then finishes what runs and returns.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn serve(
        self,
        address: impl ToSocketAddrs + fmt::Debug,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let said = format!("{address:?}");
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| Error::Listen { address: said, source })?;
        self.serve_on(listener, shutdown).await
    }

    /// As [`serve`](Self::serve), on a listener that exists already, or on [`Listeners`]: with another for
    /// probes, or with TLS (feature `tls`).
    ///
    /// Raises the process's limit on open files as far as it may, for each connection takes one.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn serve_on(
        self,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let listeners = listeners.into();
        let said = listeners.address().map_or_else(|_| String::new(), |at| at.to_string());
        // It serves with what there is, and says so where that is too little.
        let _ = http::raise_descriptor_limit();
        let served = self.http.serve(listeners, shutdown).await;
        let engine = self.engine;
        // A panic in there has been reported by then.
        let _ = tokio::task::spawn_blocking(move || engine.join()).await;
        served.map_err(|source| Error::Listen { address: said, source })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("kv_bytes", &self.kv_bytes).finish_non_exhaustive()
    }
}
