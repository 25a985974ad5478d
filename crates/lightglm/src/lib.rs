//! Run, teach, shrink, serve and trust a GLM-4-class language model on hardware that a small company
//! has. One crate to depend on.
//!
//! **Should I use this crate?** Yes, to use language models in a Rust program. The crates below it
//! (`lightglm-core`, `-text`, `-generation`, `-model`, `-quant`, `-sparse`, `-train`, `-serve`,
//! `-eval`, `-hub`) are for those who bring parts of their own: a backend, a cache, a projection, a loop.
//!
//! A folder, a GGUF file or a name on a hub; an answer as it comes:
//!
//! ```no_run
//! use lightglm::{LoadOptions, Model};
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let model = Model::open("GLM-4-9B-0414", LoadOptions::default())?;
//! let mut chat = model.chat();
//! for piece in chat.ask("How do I return an order?")? {
//!     print!("{}", piece?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A GGUF file as 8-bit codes behind an OpenAI-compatible server (feature `serve`):
//!
#![cfg_attr(feature = "serve", doc = "```no_run")]
#![cfg_attr(not(feature = "serve"), doc = "```ignore")]
//! use lightglm::{LoadOptions, Model, Server, ServerOptions, Weights};
//!
//! # async fn serve() -> Result<(), lightglm::Error> {
//! let int8 = LoadOptions { weights: Weights::scheme("int8")?, ..Default::default() };
//! let model = Model::open("model.gguf", int8)?;
//! let server = Server::new(model, ServerOptions::default())?;
//! server.serve("127.0.0.1:8080", std::future::pending()).await
//! # }
//! ```
//!
//! Adapters from a company's own rows, and quantization-aware training, are in `training` (feature
//! `train`), students cut out of a teacher in `prune` (the same feature); folders of packed weights in
//! [`quantize`], with adapters in them in [`merge`]; quality as a number in [`evaluate`]; models that read
//! only what a token needs in [`sparse`]; vectors of texts, for programs that look things up, in
//! [`embedding`].
//!
//! | feature | adds |
//! |---|---|
//! | (default) | the CPU, text, GGUF and safetensors, every kind of weights |
//! | `tiny` (on) | the default model, compiled in: 7 MB |
//! | `hub` | models by name: Hugging Face, ModelScope, a small model of general use |
//! | `serve` | `Server`: continuous batching, OpenAI's API, a web page |
//! | `tls` | the server with certificates (rustls) |
//! | `structured` | replies that follow a JSON schema, a regular expression or a grammar |
//! | `train` | fine-tuning and quantization-aware training |
//! | `vision` | pictures in: GLM-4.1V, GLM-4.6V-Flash, GLM-OCR |
//! | `speech` | recordings in: GLM-ASR |
//! | `wgpu`, `cuda` | GPU backends of burn |
//!
//! Everything blocks but the server. Long calls tell how far they are through a [`ProgressSink`], which
//! can end them. Errors keep what the crates below said ([`Error`]).

mod adapted;
pub mod checkpoint;
mod device;
#[cfg(feature = "tiny")]
mod embedded;
pub mod embedding;
mod error;
pub mod evaluate;
pub mod generic;
pub mod merge;
mod model;
mod model_folder;
mod new_folder;
mod progress;
#[cfg(feature = "train")]
pub mod prune;
pub mod quantize;
#[cfg(feature = "serve")]
pub mod server;
pub mod sparse;
pub mod speed;
mod summary;
#[cfg(feature = "train")]
pub mod training;
#[cfg(feature = "train")]
pub mod verify;
mod whole_file;

pub use device::{Cpu, Device};
pub use embedding::{Embedder, Reranker};
pub use error::Error;
pub use lightglm_core::{KvDtype, WeightDtype};
pub use lightglm_generation::{
    CancelToken, FinishReason, PrefillProgress, SamplingParams, Step, parse_tool_calls,
};
#[cfg(feature = "hub")]
pub use lightglm_hub::{DEFAULT_EMBEDDING_MODEL, SMALL_MODEL};
#[cfg(feature = "media")]
pub use lightglm_media::{MediaError, MediaLimits, Pcm, Picture};
pub use lightglm_quant::{Policy, Scheme};
#[cfg(feature = "structured")]
pub use lightglm_serve::structured::{Constraint, ToolSpec};
#[cfg(feature = "media")]
pub use lightglm_text::TRANSCRIPTION_PROMPT;
pub use lightglm_text::{ChatText, Message};
/// The model that is compiled in: it answers from a short text, in English and Chinese.
#[cfg(feature = "tiny")]
pub use lightglm_tiny::NAME as DEFAULT_MODEL;
pub use model::{
    Answer, Chat, IntoMedium, IntoTurn, LoadOptions, Medium, Model, Prompt, Reply, Request,
    Sparsity, Speed, Turn, UserMessage, Weights, user,
};
#[cfg(feature = "media")]
pub use model::{Segment, Transcription};
pub use model_folder::ModelFolder;
pub use progress::{Progress, ProgressSink};
#[cfg(feature = "serve")]
pub use server::{ServedModel, Server, ServerOptions};
pub use whole_file::write_whole;
