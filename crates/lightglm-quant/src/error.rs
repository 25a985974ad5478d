//! `QuantError`: why a weight or a model could not be quantized.

use std::path::PathBuf;

use lightglm_core::WeightError;
use lightglm_kernels::PackingError;

use crate::{PackedFileError, PolicyError};

/// Why a weight or a model could not be quantized, or a quantized one not be read; each names the
/// layer or the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A layer of another program's quantized checkpoint is malformed.
    #[error(transparent)]
    Format(Box<crate::formats::FormatError>),
    /// The scheme does not fit the layer's shape.
    #[error("`{name}`: {source}")]
    Layer {
        /// The layer's name, without `.weight`.
        name: String,
        /// What does not fit.
        source: PackingError,
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
    /// A method returned a matrix of another shape or format than it was asked for.
    #[error("`{name}`: the method returned {actual}, {expected} was asked for")]
    OtherFormat {
        /// The layer's name, without `.weight`.
        name: String,
        /// Shape and format asked for.
        expected: String,
        /// Shape and format returned.
        actual: String,
    },
    /// The outputs of a projection are no whole number of heads.
    #[error("`{name}`: {out_features} outputs are no whole number of heads of {head_dim}")]
    Heads {
        /// The layer's name, without `.weight`.
        name: String,
        /// Its outputs.
        out_features: usize,
        /// Of a head.
        head_dim: usize,
    },
    /// The policy names what the model does not have.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The progress callback broke off; nothing was written.
    #[error("{}: stopped before the end", file.display())]
    Interrupted {
        /// The checkpoint that was being quantized, or the file that was being written.
        file: PathBuf,
    },
    /// A quantized checkpoint is at fault.
    #[error(transparent)]
    PackedFile(#[from] PackedFileError),
    /// The checkpoint is at fault.
    #[error(transparent)]
    Weights(#[from] WeightError),
}

impl From<crate::formats::FormatError> for QuantError {
    fn from(error: crate::formats::FormatError) -> Self {
        Self::Format(Box::new(error))
    }
}
