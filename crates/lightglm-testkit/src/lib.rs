//! Test doubles and conformance suites for the seams of `lightglm-core`. Unpublished.
//!
//! **Should I use this crate?** As a dev-dependency, when you implement a seam: call the `check_*`
//! function of that seam from one test. [`TableLm`] stands in for a model wherever weights would
//! only slow a test down, and [`ShuffledKvCache`] is a cache whose block tables are in no order at
//! all, so code that assumes one fails at once.
//!
//! The checks panic with a sentence about the broken promise; nothing is returned.

mod bigram_lm;
mod check_causal_lm;
mod check_embedding;
mod check_kv_cache;
mod check_linear;
mod check_part_source;
mod check_slice_linear;
mod check_trainable_lm;
mod check_weight_source;
mod fixture;
pub mod fuzz;
mod made_up_tokens;
mod shuffled_kv_cache;
mod split_mix;
mod table_lm;
mod vocabulary_text;

pub use bigram_lm::BigramLm;
pub use check_causal_lm::check_causal_lm;
pub use check_embedding::check_embedding;
pub use check_kv_cache::check_kv_cache;
pub use check_linear::check_linear;
pub use check_part_source::check_part_source;
pub use check_slice_linear::check_slice_linear;
pub use check_trainable_lm::check_trainable_lm;
pub use check_weight_source::check_weight_source;
pub use fixture::{Fixture, relative_difference};
pub use made_up_tokens::made_up_tokens;
pub use shuffled_kv_cache::ShuffledKvCache;
pub use split_mix::SplitMix;
pub use table_lm::TableLm;
pub use vocabulary_text::VocabularyText;
