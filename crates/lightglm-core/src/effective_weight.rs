//! `EffectiveWeight`: projections whose weight can be had as one matrix.

use burn::tensor::{Tensor, backend::Backend};

use crate::projection::Linear;

/// A projection that is `y = x W^T + b` for a `W` it can write down.
///
/// What wraps a projection to change its weight (fake quantization, merging an adapter) asks for this
/// instead of naming a kind of layer, so wrappers compose in any order.
///
/// Shapes: `N` out_features, `K` in_features.
pub trait EffectiveWeight<B: Backend>: Linear<B> {
    /// `W: [N, K]`; differentiable with respect to whatever it is made of.
    fn weight(&self) -> Tensor<B, 2>;

    /// `b: [N]`.
    fn bias(&self) -> Option<Tensor<B, 1>>;
}

/// A projection that can be given another weight of the same shape: what an adapter is merged into.
pub trait ReplaceWeight<B: Backend>: EffectiveWeight<B> {
    /// The projection with `weight: [N, K]` in place of its own; the bias stays. The weight is stored
    /// in the precision it had before.
    #[must_use]
    fn with_weight(self, weight: Tensor<B, 2>) -> Self;
}
