//! CPU SIMD kernels and the burn backend extension that the decoder is written on.

pub mod cpu;
mod map_file;

pub use map_file::{MappedFile, map_file};
