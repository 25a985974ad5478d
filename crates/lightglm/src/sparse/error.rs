//! `SparseModelError`: why a model cannot be made sparse, beyond what `lightglm-sparse` finds.

use std::path::PathBuf;

use lightglm_core::SliceError;
use lightglm_sparse::SparsityError;

/// Why a model cannot be made sparse.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SparseModelError {
    /// A file of thresholds has values that cannot be, or lacks one.
    #[error("{}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: SparsityError,
    },
    /// A file has thresholds for projections (TEAL) and for gates (CATS); it can be for either.
    #[error("{}: has thresholds for `{projection}` and for `{gate}`, a projection and a gate", file.display())]
    Mixed {
        /// The file.
        file: PathBuf,
        /// A projection.
        projection: String,
        /// A gate.
        gate: String,
    },
    /// A file has a threshold for what is neither a projection of the model nor the gate of a layer.
    #[error("{}: `{name}` is neither a projection nor a gate of the model", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// What it names.
        name: String,
    },
    /// A projection was not run, so that nothing is known of its input.
    #[error("`{name}` was not run")]
    NotRun {
        /// The projection or the gate.
        name: String,
    },
    /// No neurons were chosen for a layer.
    #[error("`{name}`: no neurons were chosen")]
    NoNeurons {
        /// The layer's `down_proj`.
        name: String,
    },
    /// A projection has no such input or output.
    #[error("`{name}`")]
    Select {
        /// The projection.
        name: String,
        /// Which one.
        source: SliceError,
    },
    /// The errors of a block that was made sparse are no curve.
    #[error("`{name}`")]
    Block {
        /// The projections that were made sparse.
        name: String,
        /// Why.
        source: SparsityError,
    },
    /// The allocation was not asked for when the text was run, so what it needs is not known.
    #[error("the text was not run for the allocation `{allocation}`")]
    NotCalibrated {
        /// Its name.
        allocation: &'static str,
    },
}
