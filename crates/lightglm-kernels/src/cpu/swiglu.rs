//! SwiGLU's gate.
//!
//! Shapes: `T` tokens, `F` intermediate_size.

use super::exp::exp;
use super::isa::{Isa, kernel};
use super::scratch::Shared;
use super::simd::{LANES, Simd};
use super::team;

/// Outputs of one task, at about half a nanosecond each.
const ELEMENTS_PER_TASK: usize = 8 * 1024;

/// `y = silu(gate) * up` for `gate_up: [T, 2F]`, `gate` being the first `F` of a row and `up` the
/// last, and `y: [T, F]`.
///
/// ```text
/// silu(g) = g / (1 + e^-g)
/// ```
///
/// Source: Shazeer 2020, "GLU Variants Improve Transformer"; `Glm4MLP` in Hugging Face transformers.
///
/// # Panics
/// Where the lengths of the slices contradict each other.
pub fn swiglu(gate_up: &[f32], intermediate_size: usize, y: &mut [f32]) {
    let f = intermediate_size;
    assert_eq!(gate_up.len(), 2 * y.len(), "gate_up is not twice as long as y");
    if f == 0 {
        assert!(y.is_empty(), "y has {} elements, but F = 0", y.len());
        return;
    }
    let t = y.len() / f;
    assert_eq!(y.len(), t * f, "y has {} elements, not a multiple of F = {f}", y.len());
    let isa = Isa::current();
    let per_row = f.div_ceil(ELEMENTS_PER_TASK);
    let columns = f.div_ceil(per_row).next_multiple_of(LANES);
    let rows = (ELEMENTS_PER_TASK / f).max(1);
    let out = Shared(y.as_mut_ptr());
    team::parallel_for(t.div_ceil(rows) * per_row, |task| {
        let (group, part) = (task / per_row, task % per_row);
        let start = (part * columns).min(f);
        let len = columns.min(f - start);
        for row in group * rows..t.min((group + 1) * rows) {
            let gate = &gate_up[2 * f * row + start..][..len];
            let up = &gate_up[2 * f * row + f + start..][..len];
            // SAFETY: these `len` elements of row `row` lie inside of `y`, and only this task
            // writes them.
            let y = unsafe { std::slice::from_raw_parts_mut(out.get().add(f * row + start), len) };
            // SAFETY: the three slices have the same length.
            unsafe { gate_row(isa, gate, up, y) };
        }
    });
}

kernel! {
    /// A piece of one row.
    ///
    /// # Safety
    /// All slices have the same length.
    unsafe fn gate_row(gate: &[f32], up: &[f32], y: &mut [f32]) = gate_row_on;
}

/// See [`gate_row`].
#[inline(always)]
unsafe fn gate_row_on<S: Simd>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let whole = y.len() / LANES * LANES;
    let rest = y.len() - whole;
    let (gate, up, y) = (gate.as_ptr(), up.as_ptr(), y.as_mut_ptr());
    // SAFETY: every pointer is good for `whole + rest` elements.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            silu(S::load(gate.add(i))).mul(S::load(up.add(i))).store(y.add(i));
        }
        if rest > 0 {
            let gate = silu(S::load_part(gate.add(whole), rest));
            gate.mul(S::load_part(up.add(whole), rest)).store_part(y.add(whole), rest);
        }
    }
}

#[inline(always)]
unsafe fn silu<S: Simd>(x: S) -> S {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { x.div(S::splat(1.0).add(exp(S::zero().sub(x)))) }
}
