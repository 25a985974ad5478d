//! Dynamic sparse activation of whole models: a token runs only the weights that matter to it.
//!
//! | what is left out | found | how |
//! |---|---|---|
//! | small inputs of each projection (TEAL) | on a text | [`Calibrated`], [`ActivationThresholds`] |
//! | neurons whose gate is nearly closed (CATS) | on a text | the same, with [`Allocation::Gates`] |
//! | neurons that the prompt does not activate (GRIFFIN) | by each prompt | [`PromptNeurons`] |
//!
//! A program asks for them by [`LoadOptions::sparsity`](crate::LoadOptions::sparsity). Thresholds are
//! found once and kept in a file:
//!
//! ```no_run
//! use lightglm::sparse::{Allocation, Calibrated};
//! use lightglm::{Cpu, LoadOptions, Model, ProgressSink, Sparsity, Weights};
//! use lightglm::generic::load_quantized;
//! # let tokens: Vec<u32> = Vec::new();
//! let silent = ProgressSink::default();
//! let checkpoint = lightglm::checkpoint::open("glm-4-9b-0414", &silent)?;
//! let int8 = Weights::scheme("int8")?;
//! let model = load_quantized::<Cpu>(&checkpoint, &int8, &silent, &Default::default())?.model;
//! let windows: Vec<&[u32]> = tokens.chunks(512).collect();
//! let allocations = [Allocation::Block];
//! let calibrated =
//!     Calibrated::run(&model, checkpoint.config(), &windows, &allocations, &silent)?;
//! calibrated.thresholds(Allocation::Block, 0.4)?.save("thresholds.json".as_ref(), &model)?;
//!
//! let sparsity = Sparsity::Thresholds("thresholds.json".into());
//! let options = LoadOptions { weights: int8, sparsity, ..LoadOptions::default() };
//! let model = Model::open("glm-4-9b-0414", options)?;
//! # Ok::<(), lightglm::Error>(())
//! ```
//!
//! The modules have the parts of each method, generic over projections where they can be.

mod activation_thresholds;
mod any_order;
pub mod block_errors;
mod calibrated;
pub mod cats;
mod comparison;
mod error;
pub mod griffin;
mod prompt_neurons;
mod sparsify;
pub mod thresholds;

use std::sync::Arc;

use lightglm_core::{LogitRows, SequenceId, Span};
use lightglm_kernels::LmBackend;

pub use activation_thresholds::ActivationThresholds;
pub use any_order::{AnyOrder, SHORTEST_RUN};
pub use block_errors::BlockErrors;
pub use calibrated::{Allocation, Calibrated};
pub use comparison::{Comparer, Comparison, SparseQuality};
pub use error::SparseModelError;
pub use lightglm_sparse::{ActivationStatistics, KeptNeurons, Thresholds};
pub use prompt_neurons::{PromptNeurons, PromptNeuronsLm};
pub use sparsify::{ComparedThresholds, Sparsify, SparsifyReport, WantedThresholds};
pub use thresholds::{SparseModel, sparsify};

use crate::error::Error;
use crate::model::{Loaded, Quantized, Sparsity};

/// What a token does without, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// The fraction of the blocks' weights.
    pub sparsity: f64,
    /// Bytes that are not read, of the matrices in the order of channels.
    pub skipped_bytes: usize,
}

/// `quantized` without what `sparsity` leaves out.
pub(crate) fn sparse<B: LmBackend>(
    quantized: Quantized<B>,
    sparsity: &Sparsity,
    device: &B::Device,
) -> Result<Loaded<B>, Error> {
    let Quantized { model, scheme, integer } = quantized;
    Ok(match sparsity {
        Sparsity::Dense => Loaded::new(Arc::new(model), scheme, integer, device),
        Sparsity::Thresholds(file) => {
            let sparse = ActivationThresholds::load(file, &model)?.apply(model)?;
            Loaded::new(sparse, scheme, integer, device)
        }
        Sparsity::PromptNeurons(keep) => {
            let neurons = PromptNeurons::new(model, *keep);
            let loaded = Loaded::new(neurons.whole(), scheme, integer, device);
            Loaded { prompt_neurons: Some(neurons), ..loaded }
        }
    })
}

/// Tokens of a text that is run on its own.
fn span(tokens: &[u32]) -> Span<'_> {
    Span::text(SequenceId(0), tokens, LogitRows::Last)
}
