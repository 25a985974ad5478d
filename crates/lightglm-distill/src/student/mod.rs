//! Students: which parts of a teacher a smaller model keeps, and what a model costs on paper.
//!
//! Arithmetic only: what a model's activations are is measured elsewhere and handed in, row by row. From
//! them [`BlockInfluenceSums`], [`ColumnSums`] and [`EnergyShares`] make an [`Importance`]; that and the sizes
//! that are [`Wanted`] make a [`Slice`]; and [`SlicedWeights`] is a checkpoint of which a slice is left.
//!
//! ```
//! use lightglm_distill::student::{StudentShape, Slice};
//!
//! let teacher = StudentShape {
//!     hidden_size: 64, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16,
//!     intermediate_size: 112, vocab_size: 320, attention_bias: true, tie_word_embeddings: false,
//!     norms_per_block: 4, has_qk_norms: false,
//! };
//! let slice = Slice { layers: vec![0, 1, 3], ..Slice::whole(&teacher) }.for_kept_layers();
//! assert_eq!(slice.check(&teacher)?.num_hidden_layers, 3);
//! # Ok::<(), lightglm_distill::student::StudentError>(())
//! ```
//!
//! Sources: Men et al. 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect"
//! (depth); Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation"
//! (Minitron: width).

mod block_influence;
mod column_sums;
mod energy_shares;
mod error;
mod importance;
mod keep;
mod plan;
mod shape;
mod slice;
mod sliced_weights;
mod tensor_axes;
mod vocabulary;
mod wanted;

pub use block_influence::BlockInfluenceSums;
pub use column_sums::{ColumnSums, Measure};
pub use energy_shares::EnergyShares;
pub use error::StudentError;
pub use importance::Importance;
pub use keep::strongest;
pub use plan::{Machine, Plan};
pub use shape::StudentShape;
pub use slice::Slice;
pub use sliced_weights::SlicedWeights;
pub use vocabulary::{KeptTokens, close_under_merges};
pub use wanted::Wanted;
