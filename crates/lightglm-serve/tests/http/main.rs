//! The HTTP API, driven through its router and over loopback, against an engine that follows a script.

mod adapters;
mod auth;
mod cases;
mod chat;
mod client;
mod completions;
mod embeddings;
mod fields;
mod loopback;
mod operation;
mod scripted;
mod streaming;
mod take_away;
mod text;
mod thinking;
mod tools;
mod toy_text;
