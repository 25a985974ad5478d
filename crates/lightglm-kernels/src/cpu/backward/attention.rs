//! Attention's backward pass.
//!
//! Shapes: `T` tokens, `H` query heads, `Kh` kv heads, `d` head_dim; `t` rows of a span, `b` rows of a
//! block of queries.

use super::super::attention::AttentionShape;
use super::super::exp::exp;
use super::super::isa::{Isa, kernel};
use super::super::kv::{AttentionSpan, check_rows};
use super::super::product::{Operand, product_of};
use super::super::scratch::{Shared, with_scratch};
use super::super::simd::{LANES, Simd};
use super::super::team;

/// Queries that meet all their keys at once: enough for the matrix products to be efficient, few
/// enough that the half above the diagonal is mostly left out.
const BLOCK: usize = 64;

/// What the passes of all heads read.
struct Inputs<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    grad: &'a [f32],
    shape: AttentionShape,
}

/// Gradients of causal attention within spans, with respect to `q: [T, H d]` and `k, v: [T, Kh d]`,
/// for its output `out: [T, H d]` and that output's gradient `grad: [T, H d]`.
///
/// Probabilities are computed again, a block of queries at a time.
///
/// Source: Dao et al. 2022, "FlashAttention", appendix B.2.
///
/// # Panics
/// Where `heads` is not a multiple of `kv_heads`, spans overlap or are out of order, or lengths
/// contradict each other.
pub fn attention_backward(
    [q, k, v]: [&[f32]; 3],
    out: &[f32],
    grad: &[f32],
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let AttentionShape { heads, kv_heads, head_dim: d } = shape;
    for (name, len) in [("q", q.len()), ("out", out.len()), ("grad", grad.len()), ("dq", dq.len())]
    {
        assert_eq!(len, q.len(), "{name} and q differ in length");
    }
    for (name, len) in [("v", v.len()), ("dk", dk.len()), ("dv", dv.len())] {
        assert_eq!(len, k.len(), "{name} and k differ in length");
    }
    let (wide, narrow) = (heads * d, kv_heads * d);
    if narrow == 0 {
        assert!(q.is_empty() && k.is_empty(), "q or k have elements, but Kh * d = 0");
        return;
    }
    assert!(heads.is_multiple_of(kv_heads), "{heads} heads over {kv_heads} kv heads");
    let t = k.len() / narrow;
    assert_eq!(k.len(), t * narrow, "k has {} elements, not a multiple of {narrow}", k.len());
    assert_eq!(q.len(), t * wide, "q has {} elements, not T * H * d = {t} * {wide}", q.len());
    check_rows(spans, t);
    [&mut *dq, dk, dv].into_iter().for_each(|x| x.fill(0.0));
    let inputs = Inputs { q, k, v, out, grad, shape };
    let [dq, dk, dv] = [dq, dk, dv].map(|x| Shared(x.as_mut_ptr()));
    // A task is a span and a kv head: its queries' heads add to the same keys and values.
    team::parallel_for(spans.len() * kv_heads, |task| {
        let (span, kv_head) = (&spans[task / kv_heads], task % kv_heads);
        // SAFETY: the spans' rows lie inside of the slices and apart (`check_rows`), and the columns
        // of a kv head and of its query heads belong to this task alone.
        unsafe { of_kv_head(&inputs, span, kv_head, dq.get(), dk.get(), dv.get()) };
    });
}

/// # Safety
/// `dq`, `dk`, `dv` are good for what the span and the heads select in them, and nobody else touches
/// it.
unsafe fn of_kv_head(
    inputs: &Inputs<'_>,
    span: &AttentionSpan<'_>,
    kv_head: usize,
    dq: *mut f32,
    dk: *mut f32,
    dv: *mut f32,
) {
    let AttentionShape { heads, kv_heads, head_dim: d } = inputs.shape;
    let (group, t) = (heads / kv_heads, span.rows);
    let (wide, narrow) = (heads * d, kv_heads * d);
    let isa = Isa::current();
    let scale = 1.0 / (d as f32).sqrt();
    let first_key = span.first_row * narrow + kv_head * d;
    with_scratch(2 * BLOCK.min(t) * t, |scratch| {
        let (scores, slopes) = scratch.split_at_mut(BLOCK.min(t) * t);
        for head in kv_head * group..(kv_head + 1) * group {
            for start in (0..t).step_by(BLOCK) {
                let b = BLOCK.min(t - start);
                let n = start + b;
                let first_query = (span.first_row + start) * wide + head * d;
                // SAFETY: rows `start..start + b` and keys `0..n` lie inside of the span; the
                // scratch holds `b * t >= b * n` numbers in each half.
                unsafe {
                    let query = inputs.q.as_ptr().add(first_query);
                    let grad = inputs.grad.as_ptr().add(first_query);
                    let key = inputs.k.as_ptr().add(first_key);
                    let value = inputs.v.as_ptr().add(first_key);
                    let [p, ds] = [&mut *scores, &mut *slopes].map(|x| x.as_mut_ptr());
                    let to = |c: *mut f32, stride, add| (Shared(c), stride, add);
                    multiply([b, n, d], along(query, wide), along(key, narrow), to(p, n, false));
                    multiply([b, n, d], along(grad, wide), along(value, narrow), to(ds, n, false));
                    for i in 0..b {
                        let row = first_query + i * wide..first_query + i * wide + d;
                        let p = std::slice::from_raw_parts_mut(p.add(i * n), n);
                        let ds = std::slice::from_raw_parts_mut(ds.add(i * n), n);
                        let (out, grad) = (&inputs.out[row.clone()], &inputs.grad[row]);
                        let seen = start + i + 1;
                        softmax_row(isa, p, ds, seen, scale, out, grad);
                    }
                    let (dq, dk, dv) = (dq.add(first_query), dk.add(first_key), dv.add(first_key));
                    multiply([n, d, b], across(p, n), across(grad, wide), to(dv, narrow, true));
                    multiply([n, d, b], across(ds, n), across(query, wide), to(dk, narrow, true));
                    multiply([b, d, n], along(ds, n), across(key, narrow), to(dq, wide, false));
                }
            }
        }
    });
}

/// A factor whose rows, `stride` apart, are what sums run along.
fn along(at: *const f32, stride: usize) -> Operand<f32> {
    Operand { at, stride, k_contiguous: true }
}

/// A factor whose rows, `stride` apart, are the terms of the sums.
fn across(at: *const f32, stride: usize) -> Operand<f32> {
    Operand { at, stride, k_contiguous: false }
}

/// `c = a b`, or `c += a b`, of the shape `[m, n, k]`; `c` with the distance of its rows.
///
/// # Safety
/// That of [`product_of`].
unsafe fn multiply(
    shape: [usize; 3],
    a: Operand<f32>,
    b: Operand<f32>,
    (c, stride, add): (Shared<f32>, usize, bool),
) {
    // SAFETY: the caller's.
    unsafe { product_of(shape, a, b, c, stride, add) }
}

kernel! {
    /// Turns a row of `q k` into probabilities, and of `grad v` into gradients of `q k`.
    ///
    /// # Safety
    /// `p` and `ds` have the same length, at least `seen`; `out` and `grad` have the same length.
    unsafe fn softmax_row(
        p: &mut [f32], ds: &mut [f32], seen: usize, scale: f32, out: &[f32], grad: &[f32],
    ) = softmax_row_on;
}

/// See [`softmax_row`].
#[inline(always)]
unsafe fn softmax_row_on<S: Simd>(
    p: &mut [f32],
    ds: &mut [f32],
    seen: usize,
    scale: f32,
    out: &[f32],
    grad: &[f32],
) {
    p[seen..].fill(0.0);
    ds[seen..].fill(0.0);
    let (whole, rest) = (seen / LANES * LANES, seen % LANES);
    // SAFETY: both rows are good for `seen` elements, `out` and `grad` have one length.
    unsafe {
        let along = dot::<S>(out, grad);
        let (p, ds) = (p.as_mut_ptr(), ds.as_mut_ptr());
        let mut largest = S::splat(f32::NEG_INFINITY);
        for j in (0..whole).step_by(LANES) {
            largest = S::load(p.add(j)).max(largest);
        }
        if rest > 0 {
            let tail = S::load_part(p.add(whole), rest).keep_first(rest, f32::NEG_INFINITY);
            largest = tail.max(largest);
        }
        let factor = S::splat(scale);
        let shift = S::splat(-largest.reduce_max() * scale);
        let mut sum = S::zero();
        for j in (0..whole).step_by(LANES) {
            let e = exp(S::load(p.add(j)).fma(factor, shift));
            e.store(p.add(j));
            sum = sum.add(e);
        }
        if rest > 0 {
            let e = exp(S::load_part(p.add(whole), rest).fma(factor, shift)).keep_first(rest, 0.0);
            e.store_part(p.add(whole), rest);
            sum = sum.add(e);
        }
        let inverse = S::splat(1.0 / sum.reduce_add());
        let along = S::splat(along);
        for j in (0..whole).step_by(LANES) {
            let weight = S::load(p.add(j)).mul(inverse);
            weight.store(p.add(j));
            S::load(ds.add(j)).sub(along).mul(weight).mul(factor).store(ds.add(j));
        }
        if rest > 0 {
            let weight = S::load_part(p.add(whole), rest).mul(inverse);
            weight.store_part(p.add(whole), rest);
            let slope = S::load_part(ds.add(whole), rest).sub(along).mul(weight).mul(factor);
            slope.store_part(ds.add(whole), rest);
        }
    }
}

#[inline(always)]
unsafe fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let (whole, rest) = (a.len() / LANES * LANES, a.len() % LANES);
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: both pointers are good for `whole + rest` elements.
    unsafe {
        let mut sum = S::zero();
        for i in (0..whole).step_by(LANES) {
            sum = S::load(a.add(i)).fma(S::load(b.add(i)), sum);
        }
        if rest > 0 {
            sum = S::load_part(a.add(whole), rest).fma(S::load_part(b.add(whole), rest), sum);
        }
        sum.reduce_add()
    }
}
