//! Models behind the engine and the API: one program, as each costs half a minute to build.

#[path = "../tiny_model/mod.rs"]
mod tiny_model;

mod echo;
mod models;
mod paged_kv;
mod server;
mod structured;
#[cfg(feature = "teacher-server")]
mod teacher;
