//! Quality as a number: perplexity of a language model, how far one model is from another, and
//! question sets with their official metrics.
//!
//! **Should I use this crate?** Yes, to say what a quantized, pruned or fine-tuned model costs in
//! quality, with the protocol written beside the number so that somebody else can repeat it. The
//! crate runs any [`CausalLm`](lightglm_core::CausalLm) on token ids; it neither loads models nor
//! tokenizes text (`lightglm` does both), and it prints nothing.
//!
//! ```
//! use burn::tensor::backend::Backend;
//! use lightglm_core::{CausalLm, KvCache, KvCacheError};
//! use lightglm_eval::{EvalError, Protocol, Subject, perplexity};
//! use lightglm_generation::RunControl;
//!
//! /// Scores `tokens` in windows of 512 which advance by 256.
//! fn score<B: Backend>(
//!     model: &dyn CausalLm<B>,
//!     mut make_cache: impl FnMut(usize) -> Result<Box<dyn KvCache<B>>, KvCacheError>,
//!     tokens: &[u32],
//! ) -> Result<f64, EvalError> {
//!     let protocol = Protocol { context_length: 512, stride: 256, bos: None, context_only: 0 };
//!     let mut subject = Subject::new(model, &mut make_cache);
//!     let result = perplexity(&mut subject, tokens, &protocol, &mut RunControl::default())?;
//!     Ok(result.perplexity)
//! }
//! ```
//!
//! [`kl_divergence`] compares two models on the same tokens; it sees damage which perplexity
//! averages away. The seams used are `CausalLm` and `KvCache` (docs/numerics.md, "Quality").
//!
//! SQuAD 2.0, CMRC 2018, GSM8K and BANKING77 are read by [`data`], asked by [`prompting`] through
//! [`batched`](lightglm_generation::batched) generation and log-likelihoods, scored by [`metrics`] and told by [`Report`]; each
//! can be used without the others. The program `evaluate` puts them together.

pub mod data;
mod error;
mod kl_divergence;
pub mod metrics;
mod perplexity;
pub mod prompting;
mod protocol;
mod python_text;
mod report;
mod row_divergence;
mod seeded;
mod statistics;
mod window_scan;

pub use error::{EvalError, ModelRole};
pub use kl_divergence::{KlDivergence, kl_divergence};
pub use perplexity::{Perplexity, WindowNll, perplexity};
pub use protocol::{Protocol, Window};
pub use report::Report;
pub use window_scan::Subject;
