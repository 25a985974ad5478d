//! `QuantError`: why a weight or a model could not be quantized.

use lightglm_core::WeightError;
use lightglm_kernels::PackError;

/// Why a weight or a model could not be quantized; each names the layer or the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The scheme does not fit the layer's shape.
    #[error("`{name}`: {source}")]
    Layer {
        /// The layer's name, without `.weight`.
        name: String,
        /// What does not fit.
        source: PackError,
    },
    /// A weight is NaN or infinite.
    #[error("`{name}`: the weight in row {row} and column {column} is {value}")]
    NotFinite {
        /// The layer's name, without `.weight`.
        name: String,
        /// Row of the weight.
        row: usize,
        /// Its column.
        column: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// The checkpoint is at fault.
    #[error(transparent)]
    Weights(#[from] WeightError),
}
