//! Continuous batching, a paged KV cache, structured output, and an HTTP API that people know.

pub mod engine;
#[cfg(feature = "http")]
pub mod http;
pub mod kv;
#[cfg(feature = "structured")]
pub mod structured;
