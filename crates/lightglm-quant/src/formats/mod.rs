//! Quantized tensors of other programs: read into, and written from, [`QuantizedMatrix`] without a
//! detour through floating point.
//!
//! [`QuantizedMatrix`]: lightglm_kernels::QuantizedMatrix

pub mod compressed_tensors;
mod error;
mod gguf;

pub use error::FormatError;
pub(crate) use gguf::StoredBlocks;
pub use gguf::{GGUF_BLOCK_TYPES, import_gguf};
