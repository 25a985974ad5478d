//! The HTTP API, driven through its router and over loopback, against an engine that follows a script.

mod adapters;
mod auth;
mod cases;
mod chat;
mod client;
mod completions;
mod fields;
mod logged;
mod loopback;
mod measured;
mod operation;
mod request_log;
mod scripted;
mod soak;
mod streaming;
mod take_away;
mod tenants;
mod text;
mod thinking;
mod tools;
mod toy_text;
