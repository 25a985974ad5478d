//! `AppState`: what every route shares.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, watch};
use tracing::Span;

use super::admission::Admission;
use super::body::body_budget::BodyBudget;
use super::config::{HttpLimits, ServerConfig};
use super::encoders::embedder::{Encoders, Named, TextEmbedder};
use super::error::ApiError;
use super::keys::auth::ApiKeys;
use super::known_fields::KnownFields;
use super::metrics::Metrics;
use super::models::{Library, NamedModel};
use super::shorten::shortened;
use crate::engine::EngineLimits;

/// Text of so many bytes is tokenized where it is; more would keep other requests waiting.
const SHORT_TEXT: usize = 4 << 10;

/// Long texts and grammars that are worked on at the same time.
const TEXT_WORKERS: usize = 2;

/// What every route shares; clones are the same.
#[derive(Clone)]
pub(super) struct AppState(Arc<Shared>);

/// See [`AppState`].
pub(super) struct Shared {
    pub(super) config: ServerConfig,
    /// The models.
    pub(super) library: Arc<Library>,
    pub(super) encoders: Encoders,
    /// One part of one request runs through an encoder at a time.
    pub(super) encoder_turns: Arc<Semaphore>,
    /// The files of one request at a time are decoded and encoded.
    pub(super) media_turns: Arc<Semaphore>,
    /// A permit for each request whose files wait or are encoded.
    pub(super) media_waiting: Arc<Semaphore>,
    pub(super) keys: ApiKeys,
    pub(super) metrics: Metrics,
    /// A permit for each request that is worked on.
    pub(super) admission: Arc<Semaphore>,
    /// For bodies that arrive.
    pub(super) bodies: BodyBudget,
    draining: AtomicBool,
    /// Whether what still runs is cancelled.
    ending: watch::Sender<bool>,
    /// One adapter at a time is loaded.
    pub(super) adapters: Arc<Semaphore>,
    /// The OpenAPI document.
    pub(super) openapi: String,
    /// The fields that it has.
    pub(super) known_fields: KnownFields,
    text_workers: Arc<Semaphore>,
    random: RandomState,
    counter: AtomicU64,
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl AppState {
    pub(super) fn new(config: ServerConfig, library: Arc<Library>, encoders: Encoders) -> Self {
        let permits = permits(&config);
        let media_waiting = config.limits.media_waiting.clamp(1, Semaphore::MAX_PERMITS);
        let media_waiting = Arc::new(Semaphore::new(media_waiting));
        // Of several models each has its own.
        let bounds = match library.residents().as_slice() {
            [only] if library.entries().len() == 1 => Some(only.engine.limits()),
            _ => None,
        };
        let most_choices = most_choices(&config.limits, bounds.as_ref());
        let vocab_size = bounds.map(|bounds| bounds.vocab_size);
        let openapi = super::openapi::document(&config, vocab_size, most_choices);
        Self(Arc::new(Shared {
            keys: ApiKeys::new(&config.api_keys, config.tenants.clone()),
            metrics: Metrics::new(library.clone()),
            admission: Arc::new(Semaphore::new(permits)),
            bodies: BodyBudget::new(config.limits.arriving_bytes),
            draining: AtomicBool::new(false),
            ending: watch::Sender::new(false),
            adapters: Arc::new(Semaphore::new(1)),
            known_fields: KnownFields::of(&openapi),
            openapi,
            text_workers: Arc::new(Semaphore::new(TEXT_WORKERS)),
            random: RandomState::new(),
            counter: AtomicU64::new(0),
            config,
            library,
            encoders,
            encoder_turns: Arc::new(Semaphore::new(1)),
            media_turns: Arc::new(Semaphore::new(1)),
            media_waiting,
        }))
    }

    /// No new requests from now on.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.library.drain();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Whoever waits for a reply gets an error instead, now.
    pub(super) fn give_up(&self) {
        self.ending.send_replace(true);
    }

    /// Waits for [`AppState::give_up`].
    pub(super) fn the_end(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ending = self.ending.subscribe();
        async move {
            // A server that is gone gives up nothing: its replies may still be read.
            if ending.wait_for(|ending| *ending).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// No request is worked on, here or in the engine.
    pub(super) fn is_idle(&self) -> bool {
        self.admission.available_permits() == permits(&self.config) && self.library.is_idle()
    }

    /// A number that nobody can foresee without the process's own random keys.
    pub(super) fn random(&self) -> u64 {
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.counter.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }

    /// A new name: `prefix` and 32 hexadecimal digits.
    pub(super) fn new_id(&self, prefix: &str) -> String {
        format!("{prefix}{:016x}{:016x}", self.random(), self.random())
    }

    /// What `model` names; the model for requests that name none where it is absent.
    ///
    /// # Errors
    /// [`ApiError::UnknownModel`], and [`ApiError::Field`] where there is no such default.
    pub(super) fn named(&self, model: Option<&str>) -> Result<NamedModel, ApiError> {
        let name = match model {
            Some(name) => name,
            None if self.config.model_name.is_empty() => {
                let reason = "it is required, for this server has several models: GET /v1/models";
                return Err(ApiError::field("model", reason));
            }
            None => &self.config.model_name,
        };
        let named = self.library.named(name);
        named.ok_or_else(|| ApiError::UnknownModel { name: shortened(name) })
    }

    /// The embedding model, which `model` has to name where it is given.
    ///
    /// # Errors
    /// [`ApiError::Embeddings`], [`ApiError::UnknownModel`], and [`ApiError::Field`] for a model that
    /// continues texts.
    pub(super) fn embedder(
        &self,
        model: Option<&str>,
    ) -> Result<Named<dyn TextEmbedder>, ApiError> {
        let Some(served) = &self.encoders.embedder else { return Err(ApiError::Embeddings) };
        match model.filter(|model| *model != served.name) {
            None => Ok(served.clone()),
            Some(other) => {
                self.named(Some(other))?;
                let reason = format!("it gives no embeddings; `{}` does", served.name);
                Err(ApiError::field("model", reason))
            }
        }
    }

    /// Runs `work` on `bytes` bytes of text: here where it is short, else where it may take its time.
    ///
    /// # Errors
    /// Those of `work`, and of [`Admission::wait_for`].
    pub(super) async fn work_on_text<T: Send + 'static>(
        &self,
        admission: &mut Admission,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if bytes <= SHORT_TEXT {
            return work();
        }
        admission.wait_for(in_turn(self.text_workers.clone(), work)).await?
    }
}

/// Runs `work` on a thread that may wait, when `turns` has one for it.
///
/// It goes on where nobody waits for it any more, and so does its turn.
///
/// # Errors
/// Those of `work`.
pub(super) async fn in_turn<T: Send + 'static>(
    turns: Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = turns.acquire_owned().await.map_err(|_| ApiError::Internal)?;
    let span = Span::current();
    let work = move || {
        let _turn = turn;
        span.in_scope(work)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ApiError::ShuttingDown),
    }
}

/// Prompts times choices of one request, as far as they are the same for all of a server's models.
pub(super) fn most_choices(limits: &HttpLimits, engine: Option<&EngineLimits>) -> usize {
    let waiting = engine.map_or(usize::MAX, |engine| engine.max_waiting);
    let per_key = engine.and_then(|engine| engine.max_open_per_key).unwrap_or(usize::MAX);
    limits.choices.min(waiting).min(per_key).max(1)
}

/// Places for requests that are worked on at the same time.
fn permits(config: &ServerConfig) -> usize {
    config.limits.concurrent_requests.clamp(1, Semaphore::MAX_PERMITS)
}

/// Seconds since 1970.
pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
