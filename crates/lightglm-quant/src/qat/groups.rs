//! What all fake quantization is made of: groups of columns and rounding.
//!
//! Shapes: `R` rows, `K` columns, `G` groups of a row, `g` columns of a group.

use burn::tensor::{DType, Tensor, backend::Backend};

/// `x: [R, K] -> [R, G, g]`; a shorter last group is filled up with zeros.
pub(super) fn grouped<B: Backend>(x: Tensor<B, 2>, group: usize) -> Tensor<B, 3> {
    let [rows, k] = x.dims();
    let groups = k.div_ceil(group);
    let x = match groups * group - k {
        0 => x,
        missing => {
            let zeros = Tensor::zeros([rows, missing], (&x.device(), DType::F32));
            Tensor::cat(vec![x, zeros], 1)
        }
    };
    x.reshape([rows, groups, group])
}

/// Undoes [`grouped`]: `x: [R, G, g] -> [R, K]`.
pub(super) fn ungrouped<B: Backend>(x: Tensor<B, 3>, k: usize) -> Tensor<B, 2> {
    let [rows, groups, group] = x.dims();
    let x = x.reshape([rows, groups * group]);
    if groups * group == k { x } else { x.narrow(1, 0, k) }
}

/// Half to even, exact for magnitudes below 2^22; larger ones stay about as large.
///
/// Two additions, which become vector instructions: burn-flex's `round` is a call of libm and some
/// branches for every weight, slower than all the rest of a fake quantization. Backends must not
/// simplify `(x + c) - c`, and none of burn's does unless told to.
pub(super) fn round<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    const SHIFT: f32 = 12_582_912.0;
    x.add_scalar(SHIFT).sub_scalar(SHIFT)
}

/// `x` as a constant. `detach` alone keeps a parameter's wish for gradients, and with it a graph.
pub(super) fn untracked<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.detach().set_require_grad(false)
}
