//! Checkpoints: safetensors, GGUF, seeded.

mod gguf_vocabulary;

pub use gguf_vocabulary::GgufVocabulary;
