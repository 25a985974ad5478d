//! `EngineHandle`: the engine, as everybody else sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lightglm_core::MediaRunsError;
use lightglm_generation::Continuation;

use super::config::{EngineLimits, RETRY_BOUNDS};
use super::event::EventSink;
use super::inbox::{Inbox, Refusal};
use super::models::{AdapterError, Adapters};
use super::rejection::Rejection;
use super::request::EngineRequest;
use super::stats::EngineStats;
use super::waiting_request::WaitingRequest;

/// Submits requests to an [`Engine`](super::Engine) from any thread; clones share it.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) shared: Arc<Shared>,
}

/// What the handles and the engine share.
pub(super) struct Shared {
    pub(super) limits: EngineLimits,
    pub(super) inbox: Inbox<WaitingRequest>,
    pub(super) adapters: Adapters,
    pub(super) board: Mutex<Board>,
    rejected: AtomicU64,
}

/// What the engine last said of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Board {
    pub(super) stats: EngineStats,
    /// Requests that end a second, lately.
    pub(super) ends_per_second: Option<f64>,
}

impl Shared {
    pub(super) fn new(
        limits: EngineLimits,
        inbox: Inbox<WaitingRequest>,
        adapters: Adapters,
    ) -> Self {
        let (board, rejected) = (Mutex::default(), AtomicU64::new(0));
        Self { limits, inbox, adapters, board, rejected }
    }
}

impl EngineHandle {
    /// Queues `request`, whose events will come through `sink`. Returns at once.
    ///
    /// # Errors
    /// [`Rejection`]; `sink` is not called then.
    pub fn submit(&self, request: EngineRequest, sink: EventSink) -> Result<(), Rejection> {
        let accepted = self.check(request, sink).and_then(|request| {
            let key = request.key.clone();
            self.shared.inbox.offer(&key, request).map_err(|refusal| self.rejection(refusal))
        });
        if accepted.is_err() {
            self.shared.rejected.fetch_add(1, Ordering::Relaxed);
        }
        accepted
    }

    fn check(&self, request: EngineRequest, sink: EventSink) -> Result<WaitingRequest, Rejection> {
        let EngineLimits { max_positions, vocab_size, .. } = self.shared.limits;
        let EngineRequest {
            model, prompt, media, mut params, key, priority, deadline, cancel, ..
        } = request;
        let cache_salt = request.cache_salt;
        let model = match model {
            None => None,
            Some(name) => match self.shared.adapters.get(&name) {
                Some(slot) => Some(slot),
                None => return Err(Rejection::UnknownModel { name }),
            },
        };
        let (tokens, limit) = (prompt.len(), max_positions.saturating_sub(1));
        if tokens == 0 {
            return Err(Rejection::EmptyPrompt);
        }
        if tokens > limit {
            return Err(Rejection::PromptTooLong { tokens, limit });
        }
        if let Err(MediaRunsError::Ids { id, .. }) = media.check(&prompt, vocab_size) {
            return Err(Rejection::UnknownToken { token: id, vocab_size });
        }
        params.validate_for(vocab_size)?;
        params.max_tokens = params.max_tokens.min(max_positions - tokens);
        let (eos, detokenizer) = (request.eos_token_ids, request.detokenizer);
        let mut reply = Continuation::new(params, eos, prompt, vocab_size, detokenizer)?;
        for processor in request.processors {
            reply.push_processor(processor);
        }
        let prompt_logprobs = request.prompt_logprobs;
        Ok(WaitingRequest {
            key,
            cache_salt,
            priority,
            deadline,
            cancel,
            sink,
            model,
            prompt_logprobs,
            media,
            reply,
        })
    }

    fn rejection(&self, refusal: Refusal) -> Rejection {
        match refusal {
            Refusal::Draining => Rejection::Draining,
            Refusal::Full { waiting } => {
                Rejection::QueueFull { waiting, retry_after: self.retry_after(waiting) }
            }
            Refusal::KeyLimit { open } => {
                Rejection::KeyLimit { open, retry_after: self.retry_after(1) }
            }
        }
    }

    /// How long it takes until so many requests have ended.
    fn retry_after(&self, requests: usize) -> Duration {
        let (least, most) = RETRY_BOUNDS;
        let rate = self.board().ends_per_second.unwrap_or(0.0);
        let seconds = requests as f64 / rate.max(1e-3);
        Duration::from_secs_f64(seconds.min(most.as_secs_f64())).clamp(least, most)
    }

    /// What the engine is doing, and what it has done.
    pub fn stats(&self) -> EngineStats {
        let waiting = self.shared.inbox.counts().0;
        let rejected = self.shared.rejected.load(Ordering::Relaxed);
        EngineStats { waiting, rejected, ..self.board().stats }
    }

    fn board(&self) -> Board {
        *self.shared.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What requests have to keep to.
    pub fn limits(&self) -> EngineLimits {
        self.shared.limits
    }

    /// Names of the adapters that requests can ask for, ascending.
    pub fn adapters(&self) -> Vec<String> {
        self.shared.adapters.names()
    }

    /// Loads an adapter, in this thread, and makes it known.
    ///
    /// # Errors
    /// [`AdapterError`].
    pub fn load_adapter(&self, name: &str) -> Result<(), AdapterError> {
        self.shared.adapters.load(name)
    }

    /// Forgets an adapter; requests that have it finish with it.
    ///
    /// # Errors
    /// [`AdapterError::NotLoaded`].
    pub fn unload_adapter(&self, name: &str) -> Result<(), AdapterError> {
        self.shared.adapters.unload(name)
    }

    /// Accepts nothing new; what was accepted is finished, and then the engine's thread ends.
    pub fn drain(&self) {
        self.shared.inbox.drain();
    }

    /// Whether [`Self::drain`] was called or the engine has ended.
    pub fn is_draining(&self) -> bool {
        self.shared.inbox.is_draining()
    }

    /// Whether nothing waits and nothing runs.
    pub fn is_idle(&self) -> bool {
        self.shared.inbox.counts().1 == 0
    }

    /// Whether there is still an engine behind this handle.
    pub fn is_alive(&self) -> bool {
        !self.shared.inbox.is_stopped()
    }
}

impl std::fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineHandle")
            .field("limits", &self.shared.limits)
            .field("stats", &self.stats())
            .finish()
    }
}
