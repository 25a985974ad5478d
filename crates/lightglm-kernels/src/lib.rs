//! CPU SIMD kernels and the burn backend extension that the decoder is written on.

mod backends;
pub mod cpu;
mod extension;
mod flex;
mod map_file;
pub mod reference;

pub use cpu::{AttentionShape, AttentionSpan};
pub use extension::LmBackend;
pub use map_file::{MappedFile, map_file};
