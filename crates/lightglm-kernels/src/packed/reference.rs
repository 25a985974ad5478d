//! Quantized operations in plain burn operations: the matrix as floating-point numbers.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::{ActivationFormat, PackedMatrix};
use crate::reference::{embed, project};

/// See [`crate::LmBackend::embed_packed`].
pub fn embed_packed<B: Backend>(weight: &PackedMatrix<B>, ids: &[u32]) -> Tensor<B, 2> {
    embed(dequantize(weight), ids)
}

/// See [`crate::LmBackend::project_packed`].
pub fn project_packed<B: Backend>(
    x: Tensor<B, 2>,
    weight: &PackedMatrix<B>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    project(fake_quantize(x, weight.format().activation), dequantize(weight), bias)
}

/// The whole matrix as f32: `[N, K]`. Unpacked on the host, as no burn operation splits nibbles.
pub fn dequantize<B: Backend>(weight: &PackedMatrix<B>) -> Tensor<B, 2> {
    let values = weight.unpack().dequantize();
    Tensor::from_data(TensorData::new(values, weight.shape()), &weight.scales.device())
}

/// `x: [T, K]` as it comes back from quantization in `format`: `[T, K]`.
pub fn fake_quantize<B: Backend>(x: Tensor<B, 2>, format: ActivationFormat) -> Tensor<B, 2> {
    let [t, k] = x.dims();
    if t * k == 0 {
        return x;
    }
    let group = format.group_size.unwrap_or(k).min(k);
    let groups = k.div_ceil(group);
    let x = match groups * group - k {
        0 => x,
        padding => {
            let zeros = Tensor::zeros([t, padding], &x.device());
            Tensor::cat(vec![x, zeros], 1)
        }
    };
    let grouped = x.reshape([t, groups, group]);
    let largest = format.bits.largest() as f32;
    let scale = grouped.clone().abs().max_dim(2) / largest;
    let scale = scale.clone().mask_fill(scale.equal_elem(0.0), 1.0);
    let codes = (grouped / scale.clone()).round().clamp(-largest, largest);
    (codes * scale).reshape([t, groups * group]).narrow(1, 0, k)
}
