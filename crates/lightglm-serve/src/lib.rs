//! Continuous batching, a paged KV cache, structured output, and an HTTP API that people know.

pub mod engine;
pub mod kv;
