//! Continuous batching, a paged KV cache, structured output, and an HTTP API that people know.

pub mod engine;
#[cfg(feature = "structured")]
pub mod structured;
