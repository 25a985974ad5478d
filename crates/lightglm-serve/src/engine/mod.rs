//! The engine: many requests, one model, one step at a time.
//!
//! Every step takes the next token of each reply and chunks of waiting prompts through the model
//! together (Yu et al., "Orca", OSDI 2022; Agrawal et al., "Sarathi-Serve", OSDI 2024). Requests join
//! and leave between steps.
//!
//! **What a request is answered depends on the request alone**: not on who runs beside it, not on how
//! its prompt was cut, what the cache already held, how often it was interrupted, or whether tokens
//! were guessed. The model's logits do not depend on the batch, a guess only counts where the sampler
//! chooses the same token, and random numbers belong to the request.

mod cache_salt;
mod config;
mod engine_api;
mod event;
mod fairness;
mod forward;
mod handle;
mod inbox;
mod lookup;
mod models;
mod pace;
mod plan;
mod queue;
mod rejection;
mod request;
mod running_sequence;
mod scheduled_span;
mod scheduler;
mod stats;
mod sync;
mod thread;
mod waiting_request;

pub use config::{EngineConfig, EngineLimits, FairnessConfig, PaceConfig, SpeculationConfig};
pub use engine_api::EngineApi;
pub use event::{EngineError, Event, EventSink, PromptToken, Usage};
pub use handle::EngineHandle;
pub use models::{AdapterError, AdapterFault, AdapterLoader, SharedModel};
pub use rejection::Rejection;
pub use request::EngineRequest;
pub use scheduler::{Engine, EngineBuilder};
pub use stats::EngineStats;
pub use thread::EngineThread;
