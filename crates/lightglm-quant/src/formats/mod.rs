//! Quantized tensors of other programs: read into, and written from, [`QuantizedMatrix`] without a
//! detour through floating point.
//!
//! [`QuantizedMatrix`]: lightglm_kernels::QuantizedMatrix

pub mod compressed_tensors;
mod error;
mod fields;
mod gguf;
pub mod gptq_awq;
mod imported;

pub use error::FormatError;
pub(crate) use gguf::StoredBlocks;
pub use gguf::{GGUF_BLOCK_TYPES, import_gguf};
pub use imported::{ImportedCheckpoint, ImportedLayer};
