//! Run, teach, shrink, serve and trust a GLM-4-class language model on hardware that a small company
//! has. One crate to depend on.
//!
//! **Should I use this crate?** Yes, to use language models in a Rust program. The crates below it
//! (`lightglm-core`, `-text`, `-generation`, `-model`, `-quant`, `-sparse`, `-train`, `-serve`,
//! `-eval`) are for those who bring parts of their own; they are re-exported as modules.

pub mod checkpoint;
mod device;
mod error;
pub mod evaluate;
mod model;
mod model_folder;
mod progress;
pub mod quantize;
#[cfg(feature = "serve")]
pub mod server;
pub mod sparse;
pub mod speed;
mod whole_file;

pub use device::{Cpu, Device, DeviceJob, run_on};
pub use error::Error;
pub use lightglm_core::{KvDtype, WeightDtype};
pub use lightglm_generation::{
    CancelToken, FinishReason, PrefillProgress, SamplingParams, Step, parse_tool_calls,
};
#[cfg(feature = "hub")]
pub use lightglm_hub::DEFAULT_MODEL;
pub use lightglm_quant::{Policy, Scheme};
#[cfg(feature = "structured")]
pub use lightglm_serve::structured::{Constraint, ToolSpec};
pub use lightglm_text::{ChatText, Message};
pub use model::{
    Answer, Chat, LanguageModel, LoadAdapter, LoadOptions, Loaded, Model, Prompt, Quantized,
    QuantizedGlm, Reply, Request, Sparsity, Speed, Weights, load, load_quantized, load_source,
    matrices, quantize_source, recommended,
};
pub use model_folder::ModelFolder;
pub use progress::{Progress, ProgressSink};
#[cfg(feature = "serve")]
pub use server::{Server, ServerOptions};
pub use whole_file::write_whole;
