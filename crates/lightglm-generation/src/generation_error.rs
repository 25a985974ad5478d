//! `GenerationError`: why a generation broke off.

use crate::{SampleError, SamplingError};
use lightglm_core::LmError;

/// Why a generation could not start or go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// The sampling parameters contradict themselves or the model.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The prompt has no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The model or the cache refused.
    #[error(transparent)]
    Model(#[from] LmError),
    /// No token could be chosen.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The model did not return the rows it was asked for.
    #[error("the model returned logits of shape {actual:?}, expected {expected:?}")]
    LogitsShape {
        /// `[R, V]` as asked for.
        expected: [usize; 2],
        /// `[R, V]` as returned.
        actual: [usize; 2],
    },
}
