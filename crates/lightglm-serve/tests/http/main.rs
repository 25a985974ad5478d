//! The HTTP API, driven through its router and over loopback, against an engine that follows a script.

mod adapters;
mod anthropic;
mod anything;
mod auth;
mod cases;
mod chat;
mod client;
mod completions;
mod connections;
mod embeddings;
mod fields;
mod listeners;
mod logged;
mod loopback;
mod measured;
mod models;
mod ollama;
mod operation;
mod request_log;
mod responses;
mod scripted;
mod sent;
mod soak;
mod streaming;
mod take_away;
mod tenants;
mod text;
mod thinking;
#[cfg(feature = "tls")]
mod tls;
mod tools;
mod toy_text;
