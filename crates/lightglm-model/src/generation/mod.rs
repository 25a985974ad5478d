//! Generation: from a prompt's ids to text, one token at a time.
//!
//! [`Generator`] is an iterator over one sequence; [`generate_batch`] runs several at once and gives
//! each the same tokens as it would have alone. Both work with any [`CausalLm`] and any [`KvCache`].
//!
//! [`CausalLm`]: lightglm_core::CausalLm
//! [`KvCache`]: lightglm_core::KvCache

mod batch;
mod cancel;
mod contiguous_kv_cache;
mod detokenize;
mod error;
mod fast_exp;
mod generator;
mod logits_processor;
mod logprobs;
mod penalties;
mod request;
mod sampler;
mod sampling_params;
mod sequence_run;
mod step;
mod stop_strings;
mod truncation;

pub use batch::{Generation, generate_batch};
pub use cancel::CancelToken;
pub use contiguous_kv_cache::{ContiguousKvCache, KvDtype, UnknownKvDtype};
pub use detokenize::Detokenize;
pub use error::GenerationError;
pub use generator::Generator;
pub use logits_processor::{LogitsProcessor, TokenHistory};
pub use logprobs::{TokenLogprob, log_softmax_at, top_logprobs};
pub use penalties::{Ban, Bias, Penalties};
pub use request::{DEFAULT_PREFILL_CHUNK, GenerationRequest};
pub use sampler::{Sampled, Sampler};
pub use sampling_params::{SamplingError, SamplingParams};
pub use step::{FinishReason, PrefillProgress, Step};
pub use stop_strings::{StopMatch, StopStrings};
pub use truncation::{MinP, Temperature, TopK, TopP};
