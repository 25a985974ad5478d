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
mod around;
mod auth;
mod choice_sink;
mod choice_stream;
mod config;
mod constrain;
mod embedder;
mod encoding;
mod error;
mod health;
mod json_body;
mod json_shape;
mod metrics;
mod openai;
mod openapi;
mod page;
mod peer;
mod rerank;
mod router;
mod serve;
mod shorten;
mod sse;
mod stall;
mod state;
#[cfg(feature = "structured")]
mod structured;
mod tokenize;
mod unread_body;

pub use config::{HttpLimits, ServerConfig, ServerConfigError};
pub use constrain::{Constrain, ConstrainError};
pub use embedder::{EmbedderError, EmbedderLimits, TextEmbedder, TextReranker};
pub use router::Server;
#[cfg(feature = "structured")]
pub use structured::Structured;

pub use crate::constraint::{Constraint, ToolSpec};
