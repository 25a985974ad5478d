//! `forward`: a forward pass with its logits on the host.
//!
//! Shapes: `R` requested rows, `V` vocab_size.

use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvCache, LmError, Span};

/// Why a forward pass brought no logits.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The model or the cache refused; the cache holds what it held before.
    #[error(transparent)]
    Model(#[from] LmError),
    /// The model did not return the rows it was asked for.
    #[error("the model returned logits of shape {actual:?}, expected {expected:?}")]
    LogitsShape {
        /// `[R, V]` as asked for.
        expected: [usize; 2],
        /// `[R, V]` as returned.
        actual: [usize; 2],
    },
    /// The logits could not be read back from the device.
    #[error("reading the logits: {reason}")]
    ReadLogits {
        /// What the backend said.
        reason: String,
    },
}

/// Runs `spans` and returns the requested rows `[R, V]`, row-major.
pub(crate) fn forward<B: Backend>(
    model: &dyn CausalLm<B>,
    cache: &mut dyn KvCache<B>,
    spans: &[Span<'_>],
) -> Result<Vec<f32>, ForwardError> {
    let rows = spans.iter().map(|span| span.logits.count(span.tokens.len())).sum();
    let logits = model.forward(spans, cache)?;
    let (expected, actual) = ([rows, model.vocab_size()], logits.dims());
    // A row without logits would leave the caller waiting for a token for ever.
    if actual != expected || expected[1] == 0 {
        return Err(ForwardError::LogitsShape { expected, actual });
    }
    if rows == 0 {
        return Ok(Vec::new());
    }
    let unreadable = |reason: String| ForwardError::ReadLogits { reason };
    let data = logits.try_into_data().map_err(|error| unreadable(format!("{error:?}")))?;
    data.convert::<f32>().into_vec().map_err(|error| unreadable(format!("{error:?}")))
}
