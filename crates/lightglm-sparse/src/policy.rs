//! `SparsityPolicy`: which entries of a projection's input are active.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};

/// Sets to zero those entries of a projection's input that a token does without.
///
/// A mask and nothing else: what an implementation keeps it keeps to the bit, and it decides about a
/// row from that row alone, so that a token's result does not depend on its batch.
pub trait SparsityPolicy<B: Backend>: Module<B> + ModuleDisplay {
    /// `x: [T, K] -> [T, K]` with zeros where an entry is not active.
    fn apply(&self, x: Tensor<B, 2>) -> Tensor<B, 2>;
}

/// Everything is active.
#[derive(Module, Clone, Debug, Default)]
pub struct Dense;

impl<B: Backend> SparsityPolicy<B> for Dense {
    fn apply(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        x
    }
}

/// Where there is no policy, everything is active.
impl<B: Backend, P: SparsityPolicy<B>> SparsityPolicy<B> for Option<P> {
    fn apply(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Some(policy) => policy.apply(x),
            None => x,
        }
    }
}

/// `mask(x)`; in training with the gradient of `x`, so that what was left out in this step can still
/// learn.
pub(crate) fn straight_through<B: Backend>(
    x: Tensor<B, 2>,
    mask: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    if !B::ad_enabled(&x.device()) {
        return mask(x);
    }
    let kept = mask(x.clone().detach());
    let left_out = kept - x.clone().detach();
    x + left_out
}
