//! The eight-bit KV pool in plain burn operations.
//!
//! Shapes: `n` new positions, `L` positions of the blocks looked at, `G` kv heads, `d` head_dim,
//! `d4` head_dim rounded up to a multiple of four.

use burn::tensor::{DType, Int, Tensor, backend::Backend};
use lightglm_core::{Int8KvLayer, KV_BLOCK};

/// Quantizes `k, v: [n, G, d]` into a block, from position `offset` of the block on.
pub(super) fn append<B: Backend>(
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    layer: &mut Int8KvLayer<B>,
    block: usize,
    offset: usize,
) {
    let [n, g, d] = k.dims();
    let d4 = d.next_multiple_of(4);
    let k = match layer.rotate_keys {
        true => rotate_heads(k.reshape([n, g * d]), d).reshape([n, g, d]),
        false => k,
    };
    let (key_codes, key_scales) = quantize(k);
    let (value_codes, value_scales) = quantize(v);
    let (b, o) = (block..block + 1, offset..offset + n);
    let scales = [b.clone(), 0..g, o.clone()];
    layer.key_scales = layer.key_scales.clone().slice_assign(scales.clone(), key_scales);
    layer.value_scales = layer.value_scales.clone().slice_assign(scales, value_scales);
    let key_codes = key_codes.reshape([1, n, g, d4 / 4, 4]).permute([0, 2, 3, 1, 4]);
    let at = [b.clone(), 0..g, 0..d4 / 4, o, 0..4];
    layer.key_codes = layer.key_codes.clone().slice_assign(at, key_codes);
    // Four positions lie side by side, so they go in one by one.
    for i in 0..n {
        let (group, lane) = ((offset + i) / 4, (offset + i) % 4);
        let codes = value_codes.clone().narrow(0, i, 1).reshape([1, g, 1, d4, 1]);
        let at = [b.clone(), 0..g, group..group + 1, 0..d4, lane..lane + 1];
        layer.value_codes = layer.value_codes.clone().slice_assign(at, codes);
    }
}

/// `x: [n, G, d]` as codes `[n, G, d4]` and scales `[1, G, n]`.
fn quantize<B: Backend>(x: Tensor<B, 3>) -> (Tensor<B, 3, Int>, Tensor<B, 3>) {
    let [n, g, d] = x.dims();
    let device = x.device();
    let most = x.clone().abs().max_dim(2);
    let scale = most / 127.0;
    let scale = scale.clone().mask_fill(scale.equal_elem(0.0), 1.0);
    let codes = (x / scale.clone()).round().clamp(-127.0, 127.0);
    let padding = d.next_multiple_of(4) - d;
    let codes = match padding {
        0 => codes,
        _ => Tensor::cat(vec![codes, Tensor::zeros([n, g, padding], (&device, DType::F32))], 2),
    };
    (codes.int().cast(DType::I8), scale.reshape([n, g]).transpose().unsqueeze())
}

/// What some blocks hold: keys (rotated where the pool's are) `[G, d, L]`, values `[G, L, d]`.
pub(super) fn held<B: Backend>(
    layer: &Int8KvLayer<B>,
    ids: Tensor<B, 1, Int>,
    head_dim: usize,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let [_, g, steps, ..] = layer.key_codes.dims();
    let (blocks, d4) = (ids.dims()[0], 4 * steps);
    let len = blocks * KV_BLOCK;
    let of = |scales: &Tensor<B, 3>| scales.clone().select(0, ids.clone()).swap_dims(0, 1);
    let as_f32 = |codes: Tensor<B, 5, Int>| codes.float().cast(DType::F32);
    // [blocks, G, d4 / 4, 16, 4] and [blocks, G, 4, d4, 4].
    let keys = as_f32(layer.key_codes.clone().select(0, ids.clone()));
    let values = as_f32(layer.value_codes.clone().select(0, ids.clone()));
    let keys = keys.permute([1, 2, 4, 0, 3]).reshape([g, d4, len]).narrow(1, 0, head_dim);
    let values = values.permute([1, 0, 2, 4, 3]).reshape([g, len, d4]).narrow(2, 0, head_dim);
    let key_scales = of(&layer.key_scales).reshape([g, 1, len]);
    let value_scales = of(&layer.value_scales).reshape([g, len, 1]);
    (keys * key_scales, values * value_scales)
}

/// [`crate::cpu::rotate_head`] of every head of `x: [T, H d]`.
pub(super) fn rotate_heads<B: Backend>(x: Tensor<B, 2>, head_dim: usize) -> Tensor<B, 2> {
    let [t, width] = x.dims();
    if t * width == 0 {
        return x;
    }
    let n = 1usize << head_dim.trailing_zeros();
    let mut half = 1;
    let mut y = x;
    while half < n {
        let pairs = y.reshape([t, width / (2 * half), 2, half]);
        let low = pairs.clone().narrow(2, 0, 1);
        let high = pairs.narrow(2, 1, 1);
        y = Tensor::cat(vec![low.clone() + high.clone(), low - high], 2).reshape([t, width]);
        half *= 2;
    }
    if n == 1 { y } else { y * (1.0 / (n as f32).sqrt()) }
}
