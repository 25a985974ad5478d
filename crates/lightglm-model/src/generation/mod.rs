//! Generation: from a prompt's ids to text, one token at a time.
//!
//! [`Generator`] is an iterator over one sequence; [`generate_batch`] runs several at once and gives
//! each the same tokens as it would have alone. Both work with any [`CausalLm`] and any [`KvCache`].
//!
//! ```
//! # use burn_flex::Flex;
//! # use lightglm_core::SequenceId;
//! use lightglm_model::generation::*;
//! # let device = Default::default();
//! # let model = lightglm_testkit::TableLm::<Flex>::new(100, 4, 1, &device);
//! # let (layers, kv_heads, head_dim) = (1, 1, 4);
//! let mut cache =
//!     ContiguousKvCache::<Flex>::new(layers, kv_heads, head_dim, 1, 256, KvDtype::F16, &device);
//! let params = SamplingParams { temperature: 0.7, top_p: 0.9, max_tokens: 20, ..Default::default() };
//! let detokenizer = |token: u32| Some(format!("{token} "));
//! let request = GenerationRequest::new(SequenceId(0), vec![1, 2, 3], params, vec![0], detokenizer);
//! for step in Generator::new(&model, &mut cache, request)? {
//!     print!("{}", step?.text);
//! }
//! # Ok::<(), GenerationError>(())
//! ```
//!
//! [`CausalLm`]: lightglm_core::CausalLm
//! [`KvCache`]: lightglm_core::KvCache

mod batch;
mod contiguous_kv_cache;
mod error;
mod generator;
mod request;
mod sequence_run;

pub use batch::{Generation, generate_batch};
pub use contiguous_kv_cache::ContiguousKvCache;
pub use error::GenerationError;
pub use generator::{Generator, PrefillProgress};
pub use request::{DEFAULT_PREFILL_CHUNK, GenerationRequest};

pub use lightglm_core::{KvDtype, UnknownKvDtype};
pub use lightglm_generation::{
    Ban, Bias, CancelToken, Detokenize, FinishReason, LogitsProcessor, MinP, Penalties,
    ProcessorError, SampleError, Sampled, Sampler, SamplingError, SamplingParams, Step, StopMatch,
    StopStrings, Temperature, TokenHistory, TokenLogprob, TopK, TopP, log_softmax_at, top_logprobs,
};
