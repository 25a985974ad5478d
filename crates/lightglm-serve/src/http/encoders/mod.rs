//! Encoders beside the language model: vectors of texts, and documents in order.

pub(super) mod embedder;
pub(super) mod encoding;
pub(super) mod rerank;
