//! The HTTP API: OpenAI's routes, `/answer`, adapters, metrics, and a web page.
//!
//! [`Server`] puts an engine and a text side behind an [`axum::Router`]; [`Server::serve`] runs it on a
//! listener with limits on headers, connections and time, and drains it at the end.
//!
//! **Nothing that a client sends ends the server or gives a 5xx**, but for embeddings where no
//! embedding model is served (501) and a server that shuts down (503). Every number is checked before it reaches the engine, and the error
//! names the field, in OpenAI's shape.
//!
//! A request's **fairness key** is the API key it came with; without API keys, the body's `user`, else
//! the peer's address.

mod adapters;
mod admission;
mod answer;
mod anthropic;
mod body;
mod choice_sink;
mod choice_stream;
mod config;
mod connections;
mod constrain;
mod dialect;
mod encoders;
mod error;
mod health;
mod keys;
mod known_fields;
mod media;
mod metrics;
mod models;
mod ollama;
mod openai;
mod openapi;
mod page;
mod paths;
mod peer;
mod request_log;
mod responses;
mod router;
mod serve;
mod shorten;
mod sse;
mod state;
#[cfg(feature = "structured")]
mod structured;
mod tokenize;

pub use config::{HttpLimits, ServerConfig, ServerConfigError};
pub use connections::{Listeners, raise_descriptor_limit};
#[cfg(feature = "tls")]
pub use connections::{Tls, TlsError};
pub use constrain::{Constrain, ConstrainError};
pub use encoders::embedder::{EmbedderError, EmbedderLimits, TextEmbedder, TextReranker};
pub use keys::access::{Access, RouteAccess};
pub use keys::keys_file::KeysFileError;
pub use keys::tenant::{KeyDigest, Role, Tenant};
pub use keys::tenants::{TenantError, Tenants};
pub use media::{Detail, MediaDecoder, MediaRefusal, RecordingPiece, ServedMedia};
pub use models::{
    LoadedModel, MemoryShortage, ModelBytes, ModelEntry, ModelRepository, ModelsError,
};
pub use router::Server;
#[cfg(feature = "structured")]
pub use structured::Structured;

pub use crate::constraint::{Constraint, ToolSpec};
