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
