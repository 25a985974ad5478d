//! The safetensors format: header, checkpoints of one or many files, writer.
//!
//! ```text
//! u64 n | n bytes of JSON: name -> dtype, shape, [begin, end) | data
//! ```
//! Source: <https://github.com/huggingface/safetensors>, "Format".

mod checkpoint;
mod header;
mod index;

pub use checkpoint::SafetensorsCheckpoint;
pub use header::{SafetensorsHeader, SafetensorsTensor, parse_safetensors_header};
pub use lightglm_core::{SafetensorsWriter, StoredDtype, TensorSpec, save_safetensors};
