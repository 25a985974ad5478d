//! `Server`: a model behind an OpenAI-compatible HTTP API (feature `serve`).

mod media;
mod repository;
mod served_model;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use axum;
use axum::Router;
use lightglm_core::{KV_BLOCK, KvShape};
use lightglm_generation::SamplingParams;
use lightglm_kernels::give_freed_memory_back;
use lightglm_serve::engine::{EngineConfig, EngineHandle, EngineThread};
use lightglm_serve::http::{self, LoadedModel, ServerConfig};
pub use lightglm_serve::http::{
    Access, HttpLimits, KeyDigest, KeysFileError, Listeners, MemoryShortage, ModelBytes,
    ModelEntry, ModelsError, Role, Tenant, TenantError, Tenants,
};
#[cfg(feature = "tls")]
pub use lightglm_serve::http::{Tls, TlsError};
use lightglm_text::ChatText;
use tokio::net::{TcpListener, ToSocketAddrs};

use self::repository::Repository;
pub use self::served_model::ServedModel;
use crate::device::Device;
use crate::embedding::{Embedder, Reranker};
use crate::error::Error;
use crate::model::{LoadOptions, Model, Sparsity, available_memory};

/// How much of the machine a server may take, and whom it answers. The defaults suit a small company's
/// one machine: 32 requests at a time, no keys.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The model's name in requests; if omitted the model's own. Of several models, the one of requests that name
    /// none; if omitted those are refused.
    pub model_name: Option<String>,
    /// Other names of the one model in requests; of several each brings its own.
    pub aliases: Vec<String>,
    /// Bytes that several models may take together, with their keys and values; if omitted what the machine has
    /// available at the start, where they run on the CPU.
    pub model_memory: Option<u64>,
    /// How long one of several models stays that nobody uses; if omitted until another needs its room.
    pub unload_after: Option<Duration>,
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
            aliases: Vec::new(),
            model_memory: None,
            unload_after: None,
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
        config.model_memory = self.model_memory;
        config.unload_after = self.unload_after;
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
    /// Of the one model.
    engine: Option<EngineHandle>,
    kv_bytes: usize,
}

impl Server {
    /// Starts the engine of `model`, on a thread of its own.
    ///
    /// Adapters are those of the model's [`LoadOptions::adapters`](crate::LoadOptions::adapters); each is loaded by
    /// the first request that names it. With the feature `structured`, replies can be made to follow schemas and
    /// grammars.
    ///
    /// # Errors
    /// Where an option is out of range, and where the model was opened with what belongs to a single
    /// conversation: a page budget, or neurons chosen by the prompt.
    pub fn new(model: Model, options: ServerOptions) -> Result<Self, Error> {
        options.check()?;
        Self::check_model(model.options())?;
        let (ready, engine, kv_bytes) = loaded(&model, &options)?;
        let mut config = options.http(model.name());
        config.reads_media = ready.media.is_some();
        let repository = Repository::of_loaded(&model, ready, options);
        let http = http::Server::of_models(config, Arc::new(repository))?;
        Ok(Self { http, engine: Some(engine), kv_bytes })
    }

    /// A server of several models, each of which is loaded when a request first names it, and leaves when
    /// [`ServerOptions::unload_after`] says so or when another needs its room within
    /// [`ServerOptions::model_memory`]: the least recently used first, and none that answers a request. What does not
    /// fit then is refused, with the arithmetic.
    ///
    /// Of `options`, what concerns an engine holds for each model's; `kv_memory`, `sampling`, `aliases` and
    /// `default_max_tokens` are the models' own.
    ///
    /// # Errors
    /// As [`Server::new`], for each of `models`; where a file is at fault; where two have one name; where those that
    /// are to stay do not fit.
    pub fn of_models(models: Vec<ServedModel>, options: ServerOptions) -> Result<Self, Error> {
        options.check()?;
        let on_the_cpu = models.iter().all(|model| model.load.device == Device::Cpu);
        let mut config = options.http("");
        if on_the_cpu && config.model_memory.is_none() {
            config.model_memory = Some(available_memory());
        }
        let repository = Repository::new(models, options)?;
        config.reads_media = repository.may_read_media();
        let http = http::Server::of_models(config, Arc::new(repository))?;
        Ok(Self { http, engine: None, kv_bytes: 0 })
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

    /// What the engine of the one model is asked through; clones ask the same engine. `None` for a server of
    /// several.
    pub fn handle(&self) -> Option<EngineHandle> {
        self.engine.clone()
    }

    /// The models, whether they are loaded or not.
    pub fn models(&self) -> &[ModelEntry] {
        self.http.models()
    }

    /// Bytes that several models may take together.
    pub fn model_memory(&self) -> Option<u64> {
        self.http.model_memory()
    }

    /// Bytes of keys and values of the one model.
    pub fn kv_bytes(&self) -> usize {
        self.kv_bytes
    }

    /// The routes, for an axum app of one's own. Engines end when the router is dropped, which waits for that.
    pub fn router(self) -> Router {
        self.http.router()
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
        served.map_err(|source| Error::Listen { address: said, source })
    }
}

/// What holds a model's memory.
struct Owner(Option<EngineThread>);

impl Drop for Owner {
    fn drop(&mut self) {
        // The engine ends, and with it go the weights.
        drop(self.0.take());
        give_freed_memory_back();
    }
}

/// `model` as a server has it: with an engine on a thread of its own, whose handle comes with it, and the bytes of
/// its keys and values.
fn loaded(
    model: &Model,
    options: &ServerOptions,
) -> Result<(LoadedModel, EngineHandle, usize), Error> {
    let kv_dtype = model.options().kv_dtype;
    let shape = KvShape::of(model.config());
    let per_block = KV_BLOCK * shape.bytes_per_position(kv_dtype);
    let blocks = options.blocks(model.max_context(), per_block)?;
    let config = options.engine(model.max_context());
    let engine = model.inner.runtime.engine(blocks, shape, kv_dtype, config);
    let engine: EngineThread = engine.map_err(|source| Error::EngineThread { source })?;
    let mut sampling = match options.sampling.clone() {
        Some(sampling) => sampling,
        None => {
            let own = model.inner.checkpoint.generation_config()?.max_new_tokens;
            let max_tokens = own.map_or(usize::MAX, |most| most.max(1));
            SamplingParams { max_tokens, ..model.sampling().clone() }
        }
    };
    if let Some(most) = options.default_max_tokens {
        sampling.max_tokens = most;
        sampling.min_tokens = sampling.min_tokens.min(most);
    }
    let text: Arc<dyn ChatText> = model.inner.text.clone();
    let handle = engine.handle();
    #[cfg(feature = "structured")]
    let constrain: Option<Arc<dyn http::Constrain>> = {
        use lightglm_serve::structured::{GrammarVocabulary, StructuredLimits};

        let vocabulary = GrammarVocabulary::new(&*text, handle.limits().vocab_size)?;
        Some(Arc::new(http::Structured::new(vocabulary, StructuredLimits::default())))
    };
    #[cfg(not(feature = "structured"))]
    let constrain = None;
    // What quantizing and the vocabulary's grammar took on the way.
    give_freed_memory_back();
    let ready = LoadedModel {
        engine: Arc::new(handle.clone()),
        text,
        constrain,
        media: media::served(model),
        sampling,
        owner: Box::new(Owner(Some(engine))),
    };
    Ok((ready, handle, blocks * per_block))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("kv_bytes", &self.kv_bytes).finish_non_exhaustive()
    }
}
