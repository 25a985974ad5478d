//! `GenerationError`: why a generation broke off.

use lightglm_core::MediaRunsError;

use crate::forward::ForwardError;
use crate::sample_error::SampleError;
use crate::sampling_params::SamplingError;

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
    /// The media of a prompt are not where its tokens say.
    #[error(transparent)]
    Media(#[from] MediaRunsError),
    /// A forward pass brought no logits.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// No token could be chosen.
    #[error(transparent)]
    Sample(#[from] SampleError),
}
