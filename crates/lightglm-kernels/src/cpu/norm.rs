//! RMSNorm, alone and with the residual sum that GLM's post-norms stand in.
//!
//! Shapes: `T` tokens, `D` hidden_size.

use super::isa::{Isa, kernel};
use super::scratch::Shared;
use super::simd::{LANES, Simd};
use super::team;

/// Rows of a task hold about this many elements.
const ELEMENTS_PER_TASK: usize = 32 * 1024;

/// `y = x / sqrt(mean(x^2) + eps) * weight` for `x, y: [T, D]`, `weight: [D]`.
///
/// Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
///
/// # Panics
/// Where the lengths of the slices contradict each other.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    run(x, weight, eps, None, y);
}

/// `y = residual + rms_norm(x)` for `x, residual, y: [T, D]`, `weight: [D]`.
///
/// # Panics
/// Where the lengths of the slices contradict each other.
pub fn rms_norm_add(x: &[f32], weight: &[f32], eps: f32, residual: &[f32], y: &mut [f32]) {
    run(x, weight, eps, Some(residual), y);
}

fn run(x: &[f32], weight: &[f32], eps: f32, residual: Option<&[f32]>, y: &mut [f32]) {
    let d = weight.len();
    assert_eq!(x.len(), y.len(), "x and y differ in length");
    if let Some(residual) = residual {
        assert_eq!(residual.len(), y.len(), "residual and y differ in length");
    }
    if d == 0 {
        assert!(y.is_empty(), "y has {} elements, but D = 0", y.len());
        return;
    }
    let t = y.len() / d;
    assert_eq!(y.len(), t * d, "y has {} elements, not a multiple of D = {d}", y.len());
    let isa = Isa::current();
    let rows = (ELEMENTS_PER_TASK / d).max(1);
    let out = Shared(y.as_mut_ptr());
    team::parallel_for(t.div_ceil(rows), |task| {
        for row in task * rows..t.min((task + 1) * rows) {
            let range = row * d..(row + 1) * d;
            // SAFETY: row `row` of `y` lies inside of it, and only this task writes it.
            let y = unsafe { std::slice::from_raw_parts_mut(out.get().add(row * d), d) };
            let residual = residual.map(|r| &r[range.clone()]);
            // SAFETY: all slices have `d` elements.
            unsafe { norm_row(isa, &x[range], weight, eps, residual, y) };
        }
    });
}

kernel! {
    /// One row.
    ///
    /// # Safety
    /// All slices have the length of `x`.
    unsafe fn norm_row(
        x: &[f32], weight: &[f32], eps: f32, residual: Option<&[f32]>, y: &mut [f32],
    ) = norm_row_on;
}

/// See [`norm_row`].
#[inline(always)]
unsafe fn norm_row_on<S: Simd>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    let d = x.len();
    let whole = d / LANES * LANES;
    let rest = d - whole;
    let (x, weight, y) = (x.as_ptr(), weight.as_ptr(), y.as_mut_ptr());
    let residual = residual.map_or(std::ptr::null(), <[f32]>::as_ptr);
    // SAFETY: every pointer is good for `d` elements, and the loops stay below that.
    unsafe {
        let mut squares = S::zero();
        for i in (0..whole).step_by(LANES) {
            let v = S::load(x.add(i));
            squares = v.fma(v, squares);
        }
        if rest > 0 {
            let v = S::load_part(x.add(whole), rest);
            squares = v.fma(v, squares);
        }
        let inverse = S::splat(1.0 / (squares.reduce_add() / d as f32 + eps).sqrt());
        for i in (0..whole).step_by(LANES) {
            let mut v = S::load(x.add(i)).mul(inverse).mul(S::load(weight.add(i)));
            if !residual.is_null() {
                v = S::load(residual.add(i)).add(v);
            }
            v.store(y.add(i));
        }
        if rest > 0 {
            let v = S::load_part(x.add(whole), rest).mul(inverse);
            let mut v = v.mul(S::load_part(weight.add(whole), rest));
            if !residual.is_null() {
                v = S::load_part(residual.add(whole), rest).add(v);
            }
            v.store_part(y.add(whole), rest);
        }
    }
}
