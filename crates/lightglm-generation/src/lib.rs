//! Running a language model on tokens: generation of one sequence or of many, log-likelihoods,
//! sampling, stop strings, tool calls.
//!
//! **Should I use this crate?** Yes, to run any [`CausalLm`](lightglm_core::CausalLm) over any
//! [`KvCache`](lightglm_core::KvCache): [`Generator`] streams one reply, [`batched::generate`]
//! answers many requests over a bounded number of sequences, [`batched::log_likelihoods`] scores
//! continuations. To write a loop of your own (a scheduler, a search), take [`Continuation`], the way
//! from logits to text, which knows no tensor. Models are in `lightglm-model`, tokenizers and
//! templates in `lightglm-text`; to serve many clients, see `lightglm-serve`.
//!
//! ```
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_core::{KvCacheError, KvDtype, KvShape, SequenceId};
//! use lightglm_generation::batched::{self, BatchOptions, BatchSubject, ReplyControl};
//! use lightglm_generation::{
//!     ContiguousKvCache, FinishReason, GenerationRequest, Generator, RunControl, SamplingParams,
//! };
//!
//! // A model of six words that mostly says the one sentence it was taught.
//! let words = ["<eos>", "the", "cat", "sat", "down", "."];
//! let model = lightglm_testkit::TableLm::<Flex>::new(words.len(), 2, 1, &FlexDevice)
//!     .with_successors(&[1, 2, 3, 4, 5, 0]);
//! let shape = KvShape { layers: 1, key_value_heads: 1, head_dim: 3 }; // KvShape::of(&config)
//! let request = |prompt: &[u32], max_tokens| {
//!     let params = SamplingParams { max_tokens, ..SamplingParams::default() };
//!     let detokenizer = move |token: u32| Some(format!(" {}", words[token as usize]));
//!     GenerationRequest::new(prompt.to_vec(), params, vec![0], detokenizer)
//! };
//!
//! // One reply, as it comes.
//! let mut cache = ContiguousKvCache::new(shape, 1, 64, KvDtype::F32, &FlexDevice);
//! let mut text = String::new();
//! for step in Generator::new(&model, &mut cache, SequenceId(0), request(&[1], 16))? {
//!     text += &step?.text;
//! }
//! assert_eq!(text, " cat sat down .");
//!
//! // Many replies, two at a time; each is what it would be alone, and so is each error.
//! let mut make_cache = |sequences, positions| -> Result<_, KvCacheError> {
//!     Ok(ContiguousKvCache::new(shape, sequences, positions, KvDtype::F32, &FlexDevice))
//! };
//! let mut subject = BatchSubject::new(&model, &mut make_cache, ContiguousKvCache::truncate);
//! let requests = vec![request(&[1, 2], 16), request(&[3], 1), request(&[], 16)];
//! let options = BatchOptions { sequences: 2, ..BatchOptions::default() };
//! let mut replies = ReplyControl::default(); // streams with `on_step`
//! let control = &mut RunControl::default();
//! let results = batched::generate(&mut subject, requests, &options, &mut replies, control)?;
//! let [cat, sat, empty] = &results[..] else { unreachable!() };
//! assert_eq!(cat.as_ref().unwrap().text, " sat down .");
//! assert_eq!(sat.as_ref().unwrap().finish, FinishReason::Length);
//! assert_eq!(empty.as_ref().unwrap_err().to_string(), "the prompt is empty");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Seams: a [`LogitsProcessor`] constrains what may be said, a
//! [`Detokenize`](lightglm_text::Detokenize) turns tokens into text.

pub mod batched;
mod cancel;
mod contiguous_kv_cache;
mod continuation;
mod dry;
mod exp_sum;
mod forward;
mod generation;
mod generation_error;
mod generator;
mod json_scan;
pub mod log_softmax;
mod logits_processor;
mod logprobs;
mod loop_watch;
pub mod media;
mod penalties;
mod prefill_progress;
mod reasoning_stream;
mod request;
mod run_control;
mod sample_error;
mod sampler;
mod sampling_params;
mod sequence_run;
mod step;
mod stop_strings;
mod thinking;
mod tool_call;
mod tool_call_stream;
mod tool_calls;
mod truncation;

pub use cancel::CancelToken;
pub use contiguous_kv_cache::ContiguousKvCache;
pub use continuation::Continuation;
pub use dry::Dry;
pub use forward::ForwardError;
pub use generation::Generation;
pub use generation_error::GenerationError;
pub use generator::Generator;
pub use logits_processor::{LogitsProcessor, ProcessorError, TokenHistory};
pub use logprobs::{TokenLogprob, log_softmax_at, token_logprobs, top_logprobs};
pub use penalties::{Ban, Bias, Penalties};
pub use prefill_progress::PrefillProgress;
pub use reasoning_stream::{ReasoningStream, ReplyPart};
pub use request::{DEFAULT_PREFILL_CHUNK, GenerationRequest};
pub use run_control::RunControl;
pub use sample_error::SampleError;
pub use sampler::{Sampled, Sampler};
pub use sampling_params::{SamplingError, SamplingParams};
pub use step::{FinishReason, Step};
pub use stop_strings::{StopMatch, StopStrings};
pub use thinking::ThinkingControl;
pub use tool_call::ToolCall;
pub use tool_call_stream::{ToolCallEvent, ToolCallStream, is_callable};
pub use tool_calls::{ParsedReply, parse_tool_calls};
pub use truncation::{MinP, Temperature, TopK, TopP};
