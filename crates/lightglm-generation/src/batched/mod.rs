//! Many prompts at once: generation, and log-likelihoods of continuations.
//!
//! A batch holds some sequences of one cache. A sequence that is done takes the next prompt and
//! keeps what the two have in common, so that shots, instructions and contexts that consecutive
//! prompts share are computed once a sequence. **No result depends on the batch**: `CausalLm`
//! promises logits that hang neither on the other spans nor on how a prompt was cut, so one prompt
//! at a time gives the same bits.

mod continuation_tree;
mod error;
mod generate;
mod log_likelihood;
mod reply_control;
mod slots;

pub use error::BatchError;
pub use generate::generate;
pub use log_likelihood::log_likelihoods;
pub use reply_control::{IsComplete, OnStep, ReplyControl};
pub use slots::{BatchOptions, BatchSubject};
