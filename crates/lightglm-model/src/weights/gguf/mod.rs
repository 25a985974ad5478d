//! The GGUF format, versions 2 and 3: metadata, tensors, dequantization, and the translation of
//! llama.cpp's names and keys into Hugging Face's.
//!
//! ```text
//! "GGUF" | u32 version | u64 tensors | u64 keys | keys and values | tensor infos | padding | data
//! ```
//! Source: ggml's `docs/gguf.md`.

mod checkpoint;
mod config;
mod cursor;
mod dequantize;
mod file;
mod ggml_type;
mod names;
mod random;
mod sampling;
mod split;
mod value;
mod vocabulary;

pub use checkpoint::GgufCheckpoint;
pub use dequantize::dequantize;
pub use file::{GgufFile, GgufTensor};
pub use ggml_type::GgmlType;
pub use random::{RANDOM_GGUF_TYPES, write_random_gguf};
pub(crate) use split::first_part;
pub use value::{GgufArray, GgufValue, GgufValueType};
