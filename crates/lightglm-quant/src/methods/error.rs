//! `MethodError`: why a method could not be applied.

use lightglm_core::{KvCacheError, LmError, WeightError};

use crate::QuantError;

/// Why calibration, a method or a search failed; each names the layer or the tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// There is no calibration text, or too little for one prediction.
    #[error("the calibration text has {tokens} tokens, at least {least} are needed")]
    NoText {
        /// Tokens that are there.
        tokens: usize,
        /// Tokens that would do.
        least: usize,
    },
    /// The stop flag went up.
    #[error("calibration was stopped after {done} of {total} tokens")]
    Stopped {
        /// Tokens seen.
        done: usize,
        /// Tokens asked for.
        total: usize,
    },
    /// An input of a layer is NaN or infinite: the model or the text is broken.
    #[error("an input of `{name}` in column {column} is {value}")]
    InputNotFinite {
        /// The layer's name, without `.weight`.
        name: String,
        /// Column of the input.
        column: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// Statistics are of another width than the layer's weight.
    #[error("`{name}` has {in_features} columns, its statistics have {observed}")]
    Width {
        /// The layer's name, without `.weight`.
        name: String,
        /// Columns of the weight.
        in_features: usize,
        /// Columns of the statistics.
        observed: usize,
    },
    /// The Gram matrix cannot be factored, however much it is damped.
    #[error("the inputs of `{name}` give no usable Gram matrix")]
    Singular {
        /// The layer's name, without `.weight`.
        name: String,
    },
    /// A fold does not fit the tensors.
    #[error("`{name}` has shape {shape:?}, which scales of {scales} channels do not fit")]
    Fold {
        /// The tensor's name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Channels of the fold.
        scales: usize,
    },
    /// No choice of schemes is as small as the budget asks for.
    #[error("{budget} bytes are too few: the smallest schemes take {least}")]
    Budget {
        /// Bytes allowed.
        budget: usize,
        /// Bytes of the smallest choice.
        least: usize,
    },
    /// A layer could not be quantized.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A tensor could not be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The model refused the calibration text.
    #[error(transparent)]
    Model(#[from] LmError),
    /// A cache for the calibration run could not be made.
    #[error(transparent)]
    Cache(#[from] KvCacheError),
}
