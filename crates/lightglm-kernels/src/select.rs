//! Some of a weight's rows or columns, in plain burn operations.

use burn::module::Param;
use burn::tensor::{Tensor, backend::Backend};

use crate::reference::indices;

/// The rows (`dim` 0) or columns (`dim` 1) `chosen` of a float weight, in that order and in its
/// precision, as a weight of its own: gradients do not reach the one it comes from.
///
/// # Panics
/// Where an index is past the end.
pub fn select_weight<B: Backend, const D: usize>(
    weight: &Param<Tensor<B, D>>,
    dim: usize,
    chosen: &[usize],
) -> Param<Tensor<B, D>> {
    let weight = weight.val().detach();
    let chosen = indices(chosen.iter().map(|&index| index as u32), &weight.device());
    Param::from_tensor(weight.select(dim, chosen))
}
