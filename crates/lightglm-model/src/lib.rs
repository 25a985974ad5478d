//! The GLM decoder on burn tensors: configuration, weights, tokenizer and chat template, generation.

pub mod config;
pub mod generation;
pub mod text;
pub mod weights;
