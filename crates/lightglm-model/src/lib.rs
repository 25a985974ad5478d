//! The GLM decoder on burn tensors: configuration, weights, tokenizer and chat template, generation.

pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod generation;
pub mod text;
pub mod weights;
