//! Pictures and recordings through the facade: a conversation, the engine, the API.

mod advisories;
mod api;
mod chat;
mod doors;
mod models;
