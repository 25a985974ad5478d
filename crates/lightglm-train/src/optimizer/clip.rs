//! Clipping by the global norm.

use burn::tensor::backend::AutodiffBackend;
use lightglm_core::GradientSums;
use lightglm_kernels::LmGradients;

/// Added to the norm that is divided by, as PyTorch does.
const EPSILON: f64 = 1e-6;

/// The Euclidean norm of all gradients together.
pub fn global_norm<B>(sums: &GradientSums<B>) -> f64
where
    B: AutodiffBackend<InnerBackend: LmGradients>,
{
    let squares = sums.iter().map(|(_, sum)| B::InnerBackend::sum_of_squares(sum.clone()));
    squares.sum::<f64>().sqrt()
}

/// What gradients of norm `norm` are multiplied with so that their norm is at most `max_norm`.
///
/// Source: `torch.nn.utils.clip_grad_norm_`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + EPSILON)).min(1.0)
}
