//! RMSNorm's backward pass. Shapes: `T` tokens, `D` hidden_size.

use super::super::isa::{Isa, kernel};
use super::super::scratch::{Shared, with_scratch};
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::piece;

/// Rows whose weight gradients are summed by one task. Part of the numerical contract: it decides
/// the order of the sum.
const ROWS: usize = 64;

/// Gradients of `y = x r weight` with `r = 1 / sqrt(mean(x^2) + eps)`, for `grad: [T, D]`.
///
/// ```text
/// h = weight grad,  dx = r (h - x r^2 mean(h x)),  dweight = sum over rows of grad x r
/// ```
///
/// # Panics
/// Where the lengths of the slices contradict each other.
pub fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let d = weight.len();
    assert_eq!(x.len(), grad.len(), "x and grad differ in length");
    assert_eq!(x.len(), dx.len(), "x and dx differ in length");
    assert_eq!(d, dweight.len(), "weight and dweight differ in length");
    dweight.fill(0.0);
    if d == 0 || x.is_empty() {
        assert!(x.is_empty(), "x has {} elements, but D = 0", x.len());
        return;
    }
    let t = x.len() / d;
    assert_eq!(x.len(), t * d, "x has {} elements, not a multiple of D = {d}", x.len());
    let (isa, tasks) = (Isa::current(), t.div_ceil(ROWS));
    with_scratch(tasks * d, |sums| {
        sums.fill(0.0);
        let (out, shared) = (Shared(dx.as_mut_ptr()), Shared(sums.as_mut_ptr()));
        team::parallel_for(tasks, |task| {
            // SAFETY: each task has a row of `sums` of its own.
            let sum = unsafe { piece(shared, task * d, d) };
            for row in task * ROWS..t.min((task + 1) * ROWS) {
                let range = row * d..(row + 1) * d;
                // SAFETY: only this task writes row `row`; all slices have `d` elements.
                unsafe {
                    let dx = piece(out, row * d, d);
                    norm_row(isa, &x[range.clone()], weight, eps, &grad[range], dx, sum);
                }
            }
        });
        for sum in sums.chunks_exact(d) {
            for (total, part) in dweight.iter_mut().zip(sum) {
                *total += part;
            }
        }
    });
}

kernel! {
    /// One row.
    ///
    /// # Safety
    /// All slices have the length of `x`.
    unsafe fn norm_row(
        x: &[f32], weight: &[f32], eps: f32, grad: &[f32], dx: &mut [f32], dweight: &mut [f32],
    ) = norm_row_on;
}

/// See [`norm_row`].
#[inline(always)]
unsafe fn norm_row_on<S: Simd>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let d = x.len();
    let (whole, rest) = (d / LANES * LANES, d % LANES);
    let (x, weight, grad) = (x.as_ptr(), weight.as_ptr(), grad.as_ptr());
    let (dx, dweight) = (dx.as_mut_ptr(), dweight.as_mut_ptr());
    // SAFETY: every pointer is good for `d` elements, and the loops stay below that.
    unsafe {
        let (mut squares, mut along) = (S::zero(), S::zero());
        for i in (0..whole).step_by(LANES) {
            let v = S::load(x.add(i));
            squares = v.fma(v, squares);
            along = S::load(weight.add(i)).mul(S::load(grad.add(i))).fma(v, along);
        }
        if rest > 0 {
            let v = S::load_part(x.add(whole), rest);
            squares = v.fma(v, squares);
            let h = S::load_part(weight.add(whole), rest);
            along = h.mul(S::load_part(grad.add(whole), rest)).fma(v, along);
        }
        let inverse = 1.0 / (squares.reduce_add() / d as f32 + eps).sqrt();
        let slope = along.reduce_add() / d as f32 * inverse * inverse;
        let (inverse, slope) = (S::splat(inverse), S::splat(-slope));
        for i in (0..whole).step_by(LANES) {
            let (v, g) = (S::load(x.add(i)), S::load(grad.add(i)));
            v.fma(slope, S::load(weight.add(i)).mul(g)).mul(inverse).store(dx.add(i));
            g.mul(v.mul(inverse)).add(S::load(dweight.add(i))).store(dweight.add(i));
        }
        if rest > 0 {
            let v = S::load_part(x.add(whole), rest);
            let g = S::load_part(grad.add(whole), rest);
            let h = S::load_part(weight.add(whole), rest).mul(g);
            v.fma(slope, h).mul(inverse).store_part(dx.add(whole), rest);
            let sum = g.mul(v.mul(inverse)).add(S::load_part(dweight.add(whole), rest));
            sum.store_part(dweight.add(whole), rest);
        }
    }
}
