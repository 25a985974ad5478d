//! `ServerConfig`, `HttpLimits`: what a server is told, and how much a client may ask of it.

use std::time::Duration;

use axum::http::HeaderValue;
use lightglm_generation::SamplingParams;

use super::body::body_budget::FREE;
use super::connections::AllowedHost;
use super::keys::tenants::Tenants;
use super::models::ModelsError;

/// Where pictures and recordings may come.
const MEDIA_PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/audio/transcriptions", "/tokenize"];

/// What a server is told when it starts.
#[derive(Clone)]
pub struct ServerConfig {
    /// The model's name in requests and answers. Of several models, the one of requests that name none: a name
    /// or an alias, or nothing, which makes those a 400.
    pub model_name: String,
    /// Other names of the one model in requests; of several each brings its own.
    pub aliases: Vec<String>,
    /// Bytes that several models may take together, weights with keys and values; `None` asks nothing.
    pub model_memory: Option<u64>,
    /// How long one of several models stays that nobody uses; `None` is until its room is needed.
    pub unload_after: Option<Duration>,
    /// Keys that may do everything, beside those of `tenants`; with neither, everybody may use the server.
    pub api_keys: Vec<String>,
    /// Keys with names, rights and quotas, which may change while the server runs.
    pub tenants: Tenants,
    /// Whether the log has the prompts, beside what it says of every request.
    pub log_prompts: bool,
    /// Origins whose pages may call the server from a browser; with none, no other page may. `*` is
    /// any origin.
    pub cors_origins: Vec<String>,
    /// Names under which clients reach the server, as they stand in `Host`: `name`, `name:port`, `*.name`, or `*`
    /// for any. With none, a server without keys on a loopback address answers to this machine's own names alone
    /// (a page elsewhere could have its name point here), and others to every name. This machine's own
    /// names always pass.
    pub allowed_hosts: Vec<String>,
    /// How much a request may ask.
    pub limits: HttpLimits,
    /// Whether any of the models sees or hears: its requests may be as large as [`HttpLimits::media_bytes`].
    pub reads_media: bool,
    /// Whether texts that are longer than an encoder reads lose their end where the request does not say; they
    /// are refused otherwise.
    pub truncate_inputs: bool,
    /// When the one model was made: seconds since 1970.
    pub created: u64,
    /// What a request to the one model gets where it does not say; `max_tokens` is that of chats and answers, which by default
    /// go on to the end of the context.
    pub sampling: SamplingParams,
    /// How long running requests may take once the server shuts down.
    pub drain_timeout: Duration,
    /// How long `/ready` says 503 at least before the listener closes, so that a load balancer sees it.
    pub drain_notice: Duration,
}

impl ServerConfig {
    /// A server of `model_name`: no keys, no CORS, temperature 1.
    pub fn new(model_name: impl Into<String>) -> Self {
        let defaults = SamplingParams::default();
        Self {
            model_name: model_name.into(),
            aliases: Vec::new(),
            model_memory: None,
            unload_after: None,
            api_keys: Vec::new(),
            tenants: Tenants::default(),
            log_prompts: false,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            limits: HttpLimits::default(),
            reads_media: false,
            truncate_inputs: false,
            created: 0,
            sampling: SamplingParams { temperature: 1.0, max_tokens: usize::MAX, ..defaults },
            drain_timeout: Duration::from_secs(60),
            drain_notice: Duration::ZERO,
        }
    }

    /// Bytes of a body that comes to `path`.
    pub(super) fn body_limit(&self, path: &str) -> usize {
        let takes_media = MEDIA_PATHS.iter().any(|known| path.trim_end_matches('/') == *known);
        match self.reads_media && takes_media {
            true => self.limits.media_bytes.max(self.limits.body_bytes),
            false => self.limits.body_bytes,
        }
    }

    /// Whether there are keys.
    pub(super) fn asks_for_keys(&self) -> bool {
        !self.api_keys.is_empty() || !self.tenants.is_empty()
    }

    /// Says what is wrong, before a model is loaded in vain; [`Server::new`](super::Server::new) asks
    /// again.
    ///
    /// # Errors
    /// [`ServerConfigError`].
    pub fn check(&self) -> Result<(), ServerConfigError> {
        if let Some(index) = self.api_keys.iter().position(|key| key.trim().is_empty()) {
            return Err(ServerConfigError::EmptyKey { index });
        }
        self.limits.check(self.reads_media)?;
        let named = self.cors_origins.iter().filter(|origin| *origin != "*");
        named.map(|origin| origin_value(origin)).try_for_each(|value| value.map(|_| ()))?;
        match self.allowed_hosts.iter().find(|host| AllowedHost::parse(host).is_none()) {
            Some(host) => Err(ServerConfigError::Host { host: host.clone() }),
            None => Ok(()),
        }
    }

    /// [`ServerConfig::allowed_hosts`], read.
    pub(super) fn hosts(&self) -> Vec<AllowedHost> {
        self.allowed_hosts.iter().filter_map(|host| AllowedHost::parse(host)).collect()
    }
}

/// An origin as a browser's header has it: a scheme and a host, nothing behind them.
pub(super) fn origin_value(origin: &str) -> Result<HeaderValue, ServerConfigError> {
    let host = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
    let good = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#']));
    let value = HeaderValue::from_str(origin).ok().filter(|_| good);
    value.ok_or_else(|| ServerConfigError::Origin { origin: origin.to_owned() })
}

/// What is wrong with a [`ServerConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerConfigError {
    /// The models are at fault.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// An API key is empty: every request would have it.
    #[error("API key {index} is empty")]
    EmptyKey {
        /// Which one.
        index: usize,
    },
    /// A limit lets nothing pass.
    #[error("limits: {field} must be at least {least}")]
    Limit {
        /// Its name.
        field: &'static str,
        /// In its unit; of a time more than nothing.
        least: usize,
    },
    /// An origin is not one.
    #[error("`{origin}` is no origin")]
    Origin {
        /// As configured.
        origin: String,
    },
    /// A host is not one.
    #[error("`{host}` is no host: `name`, `name:port`, `*.name` or `*` is")]
    Host {
        /// As configured.
        host: String,
    },
}

impl std::fmt::Debug for ServerConfig {
    /// Says how many keys there are, and not which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("model_name", &self.model_name)
            .field("api_keys", &self.api_keys.len())
            .field("tenants", &self.tenants)
            .field("cors_origins", &self.cors_origins)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("limits", &self.limits)
            .field("sampling", &self.sampling)
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}

/// How much a request may ask. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Of a request's body.
    pub body_bytes: usize,
    /// Levels of arrays and objects in a body.
    pub json_depth: usize,
    /// Values in a body, which bounds the memory that parsing takes.
    pub json_values: usize,
    /// Of a request's line and headers together.
    pub header_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// From the first byte of a request's line to the end of its headers.
    pub header_timeout: Duration,
    /// For a connection to wait for a request, its first or the next. A load balancer that keeps connections has
    /// to give them up earlier than this.
    pub keep_alive_timeout: Duration,
    /// For the body to arrive.
    pub body_timeout: Duration,
    /// From the end of the headers to the end of the reply.
    pub request_timeout: Duration,
    /// Without a byte taken by the client while there is something to send.
    pub write_timeout: Duration,
    /// Connections, and no more than there are file descriptors for. For one more, another is closed that
    /// waits for its client; where none does, it is told to come again.
    pub connections: usize,
    /// Of [`HttpLimits::connections`], those of one address (of IPv6: of 64 bits). Where there are fewer connections
    /// because of file descriptors, the share stays.
    pub connections_per_address: usize,
    /// Of the bodies that arrive at the same time, together, without the first 64 KiB of each; more get a 429.
    pub arriving_bytes: usize,
    /// Requests that are worked on at the same time; more get a 429.
    pub concurrent_requests: usize,
    /// Choices per prompt.
    pub n: usize,
    /// Prompts times choices of one request.
    pub choices: usize,
    /// Tokens of a reply that a request may ask for; what it asks for beyond the room that its prompt leaves
    /// ends with the context.
    pub max_tokens: usize,
    /// Stop strings.
    pub stop: usize,
    /// Of one stop string.
    pub stop_bytes: usize,
    /// Alternatives per token.
    pub logprobs: usize,
    /// Tokens in `logit_bias`.
    pub logit_bias: usize,
    /// Of a JSON schema, a grammar, a regular expression, or a tool.
    pub schema_bytes: usize,
    /// Messages of a conversation.
    pub messages: usize,
    /// Tools of a request.
    pub tools: usize,
    /// `priority` may be so far from 0.
    pub priority: i32,
    /// Adapters of a model that requests have loaded by their use; for one more, the least recently used leaves.
    pub adapters: usize,
    /// Texts of one request for embeddings, or documents of one for scores.
    pub encoder_inputs: usize,
    /// Tokens of them all.
    pub encoder_tokens: usize,
    /// Of the body of a request that may have pictures and recordings in it, to a server that reads them.
    pub media_bytes: usize,
    /// Pictures and recordings of a request.
    pub media_parts: usize,
    /// Requests whose pictures and recordings wait to be encoded; more get a 429.
    pub media_waiting: usize,
}

impl HttpLimits {
    /// Refuses what lets no request pass.
    fn check(&self, reads_media: bool) -> Result<(), ServerConfigError> {
        let counts = [
            ("body_bytes", self.body_bytes),
            ("json_depth", self.json_depth),
            ("json_values", self.json_values),
            ("header_bytes", self.header_bytes),
            ("headers", self.headers),
            ("connections", self.connections),
            ("connections_per_address", self.connections_per_address),
            ("concurrent_requests", self.concurrent_requests),
            ("n", self.n),
            ("choices", self.choices),
            ("max_tokens", self.max_tokens),
            ("messages", self.messages),
            ("adapters", self.adapters),
        ];
        let times = [
            ("header_timeout", self.header_timeout),
            ("keep_alive_timeout", self.keep_alive_timeout),
            ("body_timeout", self.body_timeout),
            ("request_timeout", self.request_timeout),
            ("write_timeout", self.write_timeout),
        ];
        let nothing = counts.iter().find(|(_, count)| *count == 0).map(|(field, _)| *field);
        let never = times.iter().find(|(_, time)| time.is_zero()).map(|(field, _)| *field);
        if let Some(field) = nothing.or(never) {
            return Err(ServerConfigError::Limit { field, least: 1 });
        }
        // One body has to fit.
        let body =
            if reads_media { self.body_bytes.max(self.media_bytes) } else { self.body_bytes };
        let least = body.saturating_sub(FREE);
        if self.arriving_bytes < least {
            return Err(ServerConfigError::Limit { field: "arriving_bytes", least });
        }
        match self.priority {
            ..0 => Err(ServerConfigError::Limit { field: "priority", least: 0 }),
            _ => Ok(()),
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 2 << 20,
            json_depth: 64,
            json_values: 200_000,
            header_bytes: 32 << 10,
            headers: 64,
            header_timeout: Duration::from_secs(30),
            // Load balancers keep connections for 60 s.
            keep_alive_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(600),
            write_timeout: Duration::from_secs(60),
            connections: 4096,
            connections_per_address: 3072,
            arriving_bytes: 256 << 20,
            concurrent_requests: 1024,
            n: 8,
            choices: 64,
            max_tokens: usize::MAX,
            stop: 16,
            stop_bytes: 256,
            logprobs: 20,
            logit_bias: 1024,
            schema_bytes: 64 << 10,
            messages: 1024,
            tools: 128,
            priority: 10,
            adapters: 16,
            encoder_inputs: 2048,
            encoder_tokens: 300_000,
            media_bytes: 48 << 20,
            media_parts: 32,
            media_waiting: 64,
        }
    }
}
