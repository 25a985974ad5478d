//! Fine-tuning of language models: data, LoRA, the training loop, checkpoints.

pub mod data;
