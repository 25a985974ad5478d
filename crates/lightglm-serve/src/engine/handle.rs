//! `EngineHandle`: the engine, seen from other threads.

use super::{EngineRequest, EngineStats, EventSink, Rejection};

/// What a request may ask of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Positions of prompt and reply together.
    pub max_positions: usize,
    /// Token ids are below it.
    pub vocab_size: usize,
    /// Requests that may wait.
    pub max_waiting: usize,
    /// Requests that may run together.
    pub max_running: usize,
    /// Requests that one key may have in the engine.
    pub max_open_per_key: Option<usize>,
}

/// Why an adapter was not loaded or unloaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The engine was started without a loader.
    #[error("this server loads no adapters")]
    NotConfigured,
    /// There is one of this name.
    #[error("the adapter `{name}` is loaded already")]
    AlreadyLoaded {
        /// The name.
        name: String,
    },
    /// There is none of this name.
    #[error("the adapter `{name}` is not loaded")]
    NotLoaded {
        /// The name.
        name: String,
    },
    /// The loader failed.
    #[error("the adapter `{name}` cannot be loaded: {reason}")]
    Failed {
        /// The name.
        name: String,
        /// The loader's words.
        reason: String,
    },
}

/// The engine, seen from other threads; clones are the same engine.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    limits: EngineLimits,
}

impl EngineHandle {
    /// Returns at once. Events come on the engine's thread through `sink`.
    ///
    /// # Errors
    /// [`Rejection`] where the request is not accepted; `sink` is not called then.
    pub fn submit(&self, _request: EngineRequest, _sink: EventSink) -> Result<(), Rejection> {
        Err(Rejection::Draining)
    }

    /// What the engine is doing, and what it has done.
    pub fn stats(&self) -> EngineStats {
        EngineStats::default()
    }

    /// What a request may ask.
    pub fn limits(&self) -> EngineLimits {
        self.limits
    }

    /// Names of the loaded adapters, sorted.
    pub fn adapters(&self) -> Vec<String> {
        Vec::new()
    }

    /// Runs the loader in the calling thread, then swaps the adapter in.
    ///
    /// # Errors
    /// [`AdapterError`].
    pub fn load_adapter(&self, _name: &str) -> Result<(), AdapterError> {
        Err(AdapterError::NotConfigured)
    }

    /// Takes an adapter out; running requests finish with it.
    ///
    /// # Errors
    /// [`AdapterError`].
    pub fn unload_adapter(&self, _name: &str) -> Result<(), AdapterError> {
        Err(AdapterError::NotConfigured)
    }

    /// No new requests; what is accepted is finished.
    pub fn drain(&self) {}

    /// Nothing waits, nothing runs.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// The engine's thread runs.
    pub fn is_alive(&self) -> bool {
        true
    }
}
