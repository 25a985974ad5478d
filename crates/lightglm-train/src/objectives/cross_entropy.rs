//! Cross-entropy. Shapes: `R` labelled rows, `V` vocab_size.

use burn::tensor::Tensor;
use lightglm_core::{LabelledSpan, LmError, Objective};
use lightglm_kernels::LmBackend;

/// The sum of `-log p(target)` over all labelled rows: maximum likelihood.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy;

impl<B: LmBackend> Objective<B> for CrossEntropy {
    fn loss(
        &self,
        logits: Tensor<B, 2>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError> {
        Ok(B::cross_entropy(logits, &targets(batch)).sum())
    }
}

/// The targets of all spans, in order: `[R]`.
fn targets(batch: &[LabelledSpan<'_>]) -> Vec<u32> {
    batch.iter().flat_map(|span| span.targets).flatten().copied().collect()
}
