//! What stands between a row of logits and a reply: sampling, stop strings, log-probabilities, text
//! that arrives in pieces, tool calls.
//!
//! **Should I use this crate?** To write a loop of your own around a language model (a scheduler, a
//! search), or to add a [`LogitsProcessor`] or a text side ([`ChatText`]) of your own. To generate
//! text, `lightglm-model` has the loop; to serve many, `lightglm-serve`. Nothing in here knows a
//! tensor.
//!
//! ```
//! use lightglm_generation::{Continuation, FinishReason, SamplingParams};
//!
//! let words = ["the", "cat", "sat", "."];
//! let params = SamplingParams { stop: vec!["t.".into()], ..SamplingParams::default() };
//! let detokenizer = |token: u32| Some(words[token as usize].to_owned());
//! let mut reply = Continuation::new(params, vec![], vec![0], words.len(), detokenizer)?;
//! let mut text = String::new();
//! for mut logits in [[0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 0.0, 9.0]] {
//!     let step = reply.step(&mut logits)?;
//!     text += &step.text;
//!     if step.finish.is_some() {
//!         assert_eq!(step.finish, Some(FinishReason::StopString));
//!     }
//! }
//! assert_eq!(text, "catsa");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
pub mod batched;
mod cancel;
mod contiguous_kv_cache;
mod continuation;
mod fast_exp;
mod generation_error;
mod generator;
mod json_scan;
pub mod log_softmax;
mod logits_processor;
mod logprobs;
mod penalties;
mod request;
mod run_control;
mod sample_error;
mod sampler;
mod sampling_params;
mod sequence_run;
mod step;
mod stop_strings;
mod tool_call_stream;
mod tool_calls;
mod truncation;

pub use batch::{Generation, generate_batch};
pub use cancel::CancelToken;
pub use contiguous_kv_cache::ContiguousKvCache;
pub use continuation::Continuation;
pub use generation_error::GenerationError;
pub use generator::{Generator, PrefillProgress};
pub use logits_processor::{LogitsProcessor, ProcessorError, TokenHistory};
pub use logprobs::{TokenLogprob, log_softmax_at, top_logprobs};
pub use penalties::{Ban, Bias, Penalties};
pub use request::{DEFAULT_PREFILL_CHUNK, GenerationRequest};
pub use run_control::RunControl;
pub use sample_error::SampleError;
pub use sampler::{Sampled, Sampler};
pub use sampling_params::{SamplingError, SamplingParams};
pub use step::{FinishReason, Step};
pub use stop_strings::{StopMatch, StopStrings};
pub use tool_call_stream::{ToolCallEvent, ToolCallStream, is_callable};
pub use tool_calls::{ParsedReply, ToolCall, parse_tool_calls};
pub use truncation::{MinP, Temperature, TopK, TopP};
