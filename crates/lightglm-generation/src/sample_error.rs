//! `SampleError`: why no token could be chosen.

use crate::logits_processor::ProcessorError;

/// Why no token could be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The model's logits hold NaN or plus infinity.
    #[error("the logit of token {token} is {logit}")]
    BadLogit {
        /// The token.
        token: usize,
        /// Its logit.
        logit: f32,
    },
    /// Bans left no token to choose from.
    #[error("logit_bias, min_tokens and constraints leave no token to choose from")]
    NothingToSample,
    /// A processor gave up.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
}
