//! Fake quantization of activations. Shapes: `T` rows, `K` columns.

use burn::tensor::Tensor;
use lightglm_kernels::{ActivationBits, LmBackend};

use super::groups::{grouped, round, ungrouped, untracked};

/// `x: [T, K]` as it comes back from eight bits with a scale for each `group` columns of a row, as
/// packed projections quantize their inputs and an eight-bit KV cache its heads: `[T, K]`.
///
/// ```text
/// scale = max |x| over the group / 127   (1 where the group is all zero)
/// fq(x) = round half to even (x / scale) * scale
/// ```
/// The scale reaches the largest value, so the gradient passes everywhere.
///
/// # Panics
/// Where `group` is 0.
pub fn fake_quantize_rows<B: LmBackend>(x: Tensor<B, 2>, group: usize) -> Tensor<B, 2> {
    let [t, k] = x.dims();
    if t * k == 0 {
        return x;
    }
    let largest = ActivationBits::Eight.largest() as f32;
    let values = grouped(untracked(x.clone()), group.min(k));
    let (low, high) = (values.clone().min_dim(2), values.clone().max_dim(2));
    let scale = high.max_pair(low.neg()).div_scalar(largest);
    let zero = scale.clone().equal_elem(0.0);
    let scale = scale.mask_fill(zero, 1.0);
    let codes = round((values / scale.clone()).clamp(-largest, largest));
    B::straight_through(ungrouped(codes * scale, k), x)
}
