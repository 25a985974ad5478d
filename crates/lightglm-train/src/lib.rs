//! Fine-tuning of language models: data, LoRA, the training loop, checkpoints.

pub mod data;
pub mod lora;
pub mod objectives;
pub mod optimizer;
