//! `EngineApi`: what the HTTP side needs of an engine.

use crate::engine::{
    AdapterError, EngineHandle, EngineLimits, EngineRequest, EngineStats, EventSink, Rejection,
};

/// An engine that requests can be put to; [`EngineHandle`] is one.
///
/// It has a method for each of the handle's so that the routes can be tested against a script.
pub trait EngineApi: Send + Sync + 'static {
    /// Puts a request to the engine and returns at once; events come through `sink`.
    ///
    /// # Errors
    /// [`Rejection`]; `sink` is not called then.
    fn submit(&self, request: EngineRequest, sink: EventSink) -> Result<(), Rejection>;

    /// What the engine is doing, and what it has done.
    fn stats(&self) -> EngineStats;

    /// What a request may ask.
    fn limits(&self) -> EngineLimits;

    /// Names of the loaded adapters, sorted.
    fn adapters(&self) -> Vec<String>;

    /// Loads an adapter in the calling thread.
    ///
    /// # Errors
    /// [`AdapterError`].
    fn load_adapter(&self, name: &str) -> Result<(), AdapterError>;

    /// Takes an adapter out.
    ///
    /// # Errors
    /// [`AdapterError`].
    fn unload_adapter(&self, name: &str) -> Result<(), AdapterError>;

    /// No new requests; what is accepted is finished.
    fn drain(&self);

    /// Nothing waits, nothing runs.
    fn is_idle(&self) -> bool;

    /// The engine's thread runs.
    fn is_alive(&self) -> bool;
}

impl EngineApi for EngineHandle {
    fn submit(&self, request: EngineRequest, sink: EventSink) -> Result<(), Rejection> {
        self.submit(request, sink)
    }

    fn stats(&self) -> EngineStats {
        self.stats()
    }

    fn limits(&self) -> EngineLimits {
        self.limits()
    }

    fn adapters(&self) -> Vec<String> {
        self.adapters()
    }

    fn load_adapter(&self, name: &str) -> Result<(), AdapterError> {
        self.load_adapter(name)
    }

    fn unload_adapter(&self, name: &str) -> Result<(), AdapterError> {
        self.unload_adapter(name)
    }

    fn drain(&self) {
        self.drain();
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    fn is_alive(&self) -> bool {
        self.is_alive()
    }
}
