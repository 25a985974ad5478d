//! `EngineApi`: the seam between an engine and whoever puts requests to it.

use super::config::EngineLimits;
use super::event::EventSink;
use super::handle::EngineHandle;
use super::models::AdapterError;
use super::rejection::Rejection;
use super::request::EngineRequest;
use super::stats::EngineStats;

/// An engine that requests can be put to; [`EngineHandle`] is one.
///
/// It has a method for each of the handle's, so that a server can stand before something else: a
/// router over several engines, or a script in a test.
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
