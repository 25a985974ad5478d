//! The engine: many requests, one model, one step at a time.

mod event;
mod handle;
mod rejection;
mod request;
mod stats;

pub use event::{EngineError, Event, EventSink, Usage};
pub use handle::{AdapterError, EngineHandle, EngineLimits};
pub use rejection::Rejection;
pub use request::EngineRequest;
pub use stats::EngineStats;
