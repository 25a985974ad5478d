//! Checkpoints: safetensors and GGUF files, seeded random weights, and the writer.
//!
//! All of them are a [`WeightSource`](lightglm_core::WeightSource): tensors by their Hugging Face
//! names, mapped rather than read where the file's form allows it.

mod chatglm;
mod check_tensors;
mod gguf;
mod joined;
mod llama;
mod random_checkpoint;
mod rearranged;
mod safetensors;
mod seeded;

pub use chatglm::ChatGlmCheckpoint;
pub use check_tensors::check_tensors;
pub(crate) use gguf::first_part;
pub use gguf::{
    GgmlType, GgufArray, GgufCheckpoint, GgufFile, GgufTensor, GgufValue, GgufValueType,
    RANDOM_GGUF_TYPES, dequantize, write_random_gguf,
};
pub use llama::{LlamaCheckpoint, llama_tensors};
pub use random_checkpoint::write_random_checkpoint;
pub use rearranged::{HeadOrder, RearrangedWeights, Recipe};
pub use safetensors::{
    SafetensorsCheckpoint, SafetensorsHeader, SafetensorsTensor, SafetensorsWriter, StoredDtype,
    TensorSpec, parse_safetensors_header, save_safetensors,
};
pub use seeded::SeededWeights;
