//! The decoder's operations in plain burn operations: slow, obvious, differentiable.
//!
//! They are the specification: every fast implementation is tested against them, and a backend
//! without one runs them as they are. Shape letters as in [`crate::LmBackend`].

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Int, Tensor, TensorData, activation, backend::Backend};
use lightglm_core::{FloatKvLayer, Int8KvLayer, KV_BLOCK, KvLayer, SelectedKvLayer};

use crate::cpu::{self, AttentionShape, AttentionSpan};
use crate::row_loss::RowLoss;

mod gradients;
mod int8_kv;
mod pages;

pub use gradients::{
    adamw, attend_backward, cross_entropy_backward, embed_backward, project_backward_input,
    project_backward_weight, rms_norm_backward, row_losses_backward, sum_of_squares,
    swiglu_backward,
};

/// See [`crate::LmBackend::embed`].
pub fn embed<B: Backend>(weight: Tensor<B, 2>, ids: &[u32]) -> Tensor<B, 2> {
    let ids = indices(ids.iter().copied(), &weight.device());
    weight.select(0, ids).cast(DType::F32)
}

/// See [`crate::LmBackend::project`].
pub fn project<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let y = x.matmul(as_f32(weight).transpose());
    match bias {
        Some(bias) => y + as_f32(bias).unsqueeze(),
        None => y,
    }
}

/// See [`crate::LmBackend::project_channels`].
pub fn project_channels<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 3>,
    out_features: usize,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let [tiles, k, rows] = weight.dims();
    let weight = weight.permute([0, 2, 1]).reshape([tiles * rows, k]);
    project(x, weight.narrow(0, 0, out_features), bias)
}

/// See [`crate::LmBackend::rms_norm`].
pub fn rms_norm<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 1>, eps: f32) -> Tensor<B, 2> {
    let mean_square = (x.clone() * x.clone()).mean_dim(1);
    x / (mean_square + eps).sqrt() * as_f32(weight).unsqueeze()
}

/// See [`crate::LmBackend::swiglu`].
pub fn swiglu<B: Backend>(gate_up: Tensor<B, 2>) -> Tensor<B, 2> {
    let [_, two_f] = gate_up.dims();
    let gate = gate_up.clone().narrow(1, 0, two_f / 2);
    let up = gate_up.narrow(1, two_f / 2, two_f / 2);
    activation::silu(gate) * up
}

/// See [`crate::LmBackend::keep_large`].
pub fn keep_large<B: Backend>(x: Tensor<B, 2>, threshold: f32) -> Tensor<B, 2> {
    let small = x.clone().abs().lower_elem(threshold);
    x.mask_fill(small, 0.0)
}

/// See [`crate::LmBackend::straight_through`]. `carrier` must be finite.
pub fn straight_through<B: Backend, const D: usize>(
    value: Tensor<B, D>,
    carrier: Tensor<B, D>,
) -> Tensor<B, D> {
    match B::ad_enabled(&value.device()) {
        // `detach` alone keeps a parameter's wish for gradients. `carrier + (value - carrier)` would
        // be `value` up to rounding only.
        true => value + (carrier.clone() - carrier.detach().set_require_grad(false)),
        false => value,
    }
}

/// See [`crate::LmBackend::rotary`].
pub fn rotary<B: Backend>(
    x: Tensor<B, 2>,
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    head_dim: usize,
) -> Tensor<B, 2> {
    let [t, width] = x.dims();
    let [_, pairs] = cos.dims();
    let heads = width / head_dim;
    let x = x.reshape([t, heads, head_dim]);
    let rotated = x.clone().narrow(2, 0, 2 * pairs).reshape([t, heads, pairs, 2]);
    let even = rotated.clone().narrow(3, 0, 1);
    let odd = rotated.narrow(3, 1, 1);
    let cos = cos.reshape([t, 1, pairs, 1]);
    let sin = sin.reshape([t, 1, pairs, 1]);
    let new_even = even.clone() * cos.clone() - odd.clone() * sin.clone();
    let new_odd = odd * cos + even * sin;
    let rotated = Tensor::cat(vec![new_even, new_odd], 3).reshape([t, heads, 2 * pairs]);
    if 2 * pairs == head_dim {
        return rotated.reshape([t, width]);
    }
    let rest = x.narrow(2, 2 * pairs, head_dim - 2 * pairs);
    Tensor::cat(vec![rotated, rest], 2).reshape([t, width])
}

/// See [`crate::LmBackend::attend`].
pub fn attend<B: Backend>(
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    v: Tensor<B, 2>,
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
) -> Tensor<B, 2> {
    let outputs = spans
        .iter()
        .map(|span| {
            let rows = |x: &Tensor<B, 2>| x.clone().narrow(0, span.first_row, span.rows);
            let heads = [span.rows, shape.kv_heads, shape.head_dim];
            let keys = rows(&k).reshape(heads).permute([1, 2, 0]);
            let values = rows(&v).reshape(heads).permute([1, 0, 2]);
            attend_span(rows(&q), keys, values, shape, 0)
        })
        .collect();
    Tensor::cat(outputs, 0)
}

/// See [`crate::LmBackend::attend_segments`].
pub fn attend_segments<B: Backend>(
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    v: Tensor<B, 2>,
    shape: AttentionShape,
    segments: &[Range<usize>],
) -> Tensor<B, 2> {
    let AttentionShape { heads, kv_heads: g, head_dim: d } = shape;
    let group = heads / g;
    let of = |segment: &Range<usize>| {
        let t = segment.len();
        let rows = |x: &Tensor<B, 2>| x.clone().narrow(0, segment.start, t);
        let queries = rows(&q).reshape([t, g, group, d]).permute([1, 2, 0, 3]);
        let keys = rows(&k).reshape([t, g, d]).permute([1, 2, 0]);
        let values = rows(&v).reshape([t, g, d]).permute([1, 0, 2]);
        let scores = queries.reshape([g, group * t, d]).matmul(keys) / (d as f64).sqrt();
        let out = activation::softmax(scores, 2).matmul(values).reshape([g, group, t, d]);
        out.permute([2, 0, 1, 3]).reshape([t, heads * d])
    };
    Tensor::cat(segments.iter().map(of).collect(), 0)
}

/// See [`crate::LmBackend::layer_norm`].
pub fn layer_norm<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    eps: f32,
) -> Tensor<B, 2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let normed = centred / (variance + eps).sqrt();
    normed * as_f32(weight).unsqueeze() + as_f32(bias).unsqueeze()
}

/// See [`crate::LmBackend::gelu`].
pub fn gelu<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    activation::gelu(x)
}

/// See [`crate::LmBackend::cross_entropy`].
pub fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, targets: &[u32]) -> Tensor<B, 1> {
    let [r, v] = logits.dims();
    let beyond = targets.iter().find(|&&target| target as usize >= v);
    assert_eq!(beyond, None, "a target is not below the {v} logits");
    let targets = indices::<B>(targets.iter().copied(), &logits.device()).reshape([r, 1]);
    activation::log_softmax(logits, 1).gather(1, targets).neg().reshape([r])
}

/// See [`crate::LmBackend::row_losses`]: on the host.
pub fn row_losses<B: Backend>(logits: Tensor<B, 2>, loss: &Arc<dyn RowLoss>) -> Tensor<B, 1> {
    let ([r, _], device) = (logits.dims(), logits.device());
    let mut losses = vec![0.0; r];
    cpu::row_losses(&gradients::on_host(logits), &**loss, &mut losses);
    Tensor::from_data(TensorData::new(losses, [r]), (&device, DType::F32))
}

/// Writes `k, v: [T, G d]` into the pool at each span's positions.
pub fn append<B: Backend>(
    k: Tensor<B, 2>,
    v: Tensor<B, 2>,
    layer: &mut KvLayer<B>,
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
) {
    if let KvLayer::Selected(layer) = layer {
        append(k.clone(), v.clone(), &mut layer.pool, shape, spans);
    }
    let (g, d) = (shape.kv_heads, shape.head_dim);
    for span in spans {
        let mut row = 0;
        while row < span.rows {
            let position = span.past + row;
            let block = span.block_table[position / KV_BLOCK] as usize;
            let offset = position % KV_BLOCK;
            let n = (KV_BLOCK - offset).min(span.rows - row);
            let rows =
                |x: &Tensor<B, 2>| x.clone().narrow(0, span.first_row + row, n).reshape([n, g, d]);
            match layer {
                KvLayer::Float(layer) => append_floats(rows(&k), rows(&v), layer, block, offset),
                KvLayer::Int8(layer) => int8_kv::append(rows(&k), rows(&v), layer, block, offset),
                KvLayer::Selected(layer) => pages::extend(rows(&k), layer, block, offset),
            }
            row += n;
        }
    }
}

/// Writes `k, v: [n, G, d]` into a block, from position `offset` of the block on.
fn append_floats<B: Backend>(
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    layer: &mut FloatKvLayer<B>,
    block: usize,
    offset: usize,
) {
    let [n, g, d] = k.dims();
    let dtype = layer.keys.dtype();
    let keys = k.cast(dtype).permute([1, 2, 0]).unsqueeze();
    let values = v.cast(dtype).permute([1, 0, 2]).unsqueeze();
    let (b, o) = (block..block + 1, offset..offset + n);
    layer.keys = layer.keys.clone().slice_assign([b.clone(), 0..g, 0..d, o.clone()], keys);
    layer.values = layer.values.clone().slice_assign([b, 0..g, o, 0..d], values);
}

/// Attention of each span over the cache, which holds the span's own rows already.
pub fn attend_cached<B: Backend>(
    q: Tensor<B, 2>,
    layer: &KvLayer<B>,
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
) -> Tensor<B, 2> {
    if let KvLayer::Selected(layer) = layer {
        let outputs = spans.iter().map(|span| attend_selected(q.clone(), layer, shape, span));
        return Tensor::cat(outputs.collect(), 0);
    }
    let device = q.device();
    let q = match layer {
        KvLayer::Int8(Int8KvLayer { rotate_keys: true, .. }) => {
            int8_kv::rotate_heads(q, shape.head_dim)
        }
        _ => q,
    };
    let outputs = spans
        .iter()
        .map(|span| {
            let len = span.past + span.rows;
            let blocks = len.div_ceil(KV_BLOCK);
            let ids = indices::<B>(span.block_table[..blocks].iter().copied(), &device);
            let (keys, values) = match layer {
                KvLayer::Float(layer) => held_floats(layer, ids),
                KvLayer::Int8(layer) => int8_kv::held(layer, ids, shape.head_dim),
                KvLayer::Selected(_) => unreachable!("attended to above"),
            };
            let (keys, values) = (keys.narrow(2, 0, len), values.narrow(1, 0, len));
            let q = q.clone().narrow(0, span.first_row, span.rows);
            attend_span(q, keys, values, shape, span.past)
        })
        .collect();
    Tensor::cat(outputs, 0)
}

/// One span over the pages that its query selects, each kv head over its own.
fn attend_selected<B: Backend>(
    q: Tensor<B, 2>,
    layer: &SelectedKvLayer<B>,
    shape: AttentionShape,
    span: &AttentionSpan<'_>,
) -> Tensor<B, 2> {
    if !layer.budget.selects(span.rows, span.past) {
        return attend_cached(q, &layer.pool, shape, &[*span]);
    }
    let width = shape.heads / shape.kv_heads * shape.head_dim;
    let row = q.clone().narrow(0, span.first_row, 1);
    let tables = pages::select(row, layer, shape, span);
    let of_head = |(head, table): (usize, &Vec<u32>)| {
        let past = (table.len() - 1) * KV_BLOCK + span.past % KV_BLOCK;
        let span = AttentionSpan { past, block_table: table, ..*span };
        attend_cached(q.clone(), &layer.pool, shape, &[span]).narrow(1, head * width, width)
    };
    Tensor::cat(tables.iter().enumerate().map(of_head).collect(), 1)
}

/// What some blocks hold: keys `[G, d, L]` and values `[G, L, d]` in f32.
fn held_floats<B: Backend>(
    layer: &FloatKvLayer<B>,
    ids: Tensor<B, 1, Int>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let [_, g, d, _] = layer.keys.dims();
    let len = ids.dims()[0] * KV_BLOCK;
    let keys = layer.keys.clone().select(0, ids.clone()).permute([1, 2, 0, 3]);
    let values = layer.values.clone().select(0, ids).permute([1, 0, 2, 3]);
    (keys.reshape([g, d, len]).cast(DType::F32), values.reshape([g, len, d]).cast(DType::F32))
}

/// Causal softmax attention of one span.
///
/// `q: [t, H d]`, `keys: [G, d, L]`, `values: [G, L, d]` -> `[t, H d]`; row `i` sees
/// `past + i + 1` positions.
fn attend_span<B: Backend>(
    q: Tensor<B, 2>,
    keys: Tensor<B, 3>,
    values: Tensor<B, 3>,
    shape: AttentionShape,
    past: usize,
) -> Tensor<B, 2> {
    let [t, width] = q.dims();
    let [g, d, len] = keys.dims();
    let group = shape.heads / g;
    let device = q.device();
    let q = q.reshape([t, g, group, d]).permute([1, 2, 0, 3]).reshape([g, group * t, d]);
    let scores = (q.matmul(keys) / (d as f64).sqrt()).reshape([g, group, t, len]);
    let scores = scores + causal_mask(t, len, past, &device);
    let weights = activation::softmax(scores, 3).reshape([g, group * t, len]);
    let out = weights.matmul(values).reshape([g, group, t, d]);
    out.permute([2, 0, 1, 3]).reshape([t, width])
}

/// `[1, 1, t, len]`: 0 where row `i` may see position `j <= past + i`, minus infinity elsewhere.
fn causal_mask<B: Backend>(t: usize, len: usize, past: usize, device: &B::Device) -> Tensor<B, 4> {
    let mut mask = vec![0.0f32; t * len];
    for (i, row) in mask.chunks_mut(len).enumerate() {
        let hidden = (past + i + 1).min(len);
        row[hidden..].fill(f32::NEG_INFINITY);
    }
    Tensor::from_data(TensorData::new(mask, [1, 1, t, len]), device)
}

pub(crate) fn indices<B: Backend>(
    ids: impl Iterator<Item = u32>,
    device: &B::Device,
) -> Tensor<B, 1, Int> {
    let ids: Vec<i32> = ids.map(|id| id as i32).collect();
    let n = ids.len();
    Tensor::from_data(TensorData::new(ids, [n]), device)
}

pub(crate) fn as_f32<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    if x.dtype() == DType::F32 { x } else { x.cast(DType::F32) }
}
