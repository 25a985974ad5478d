//! SwiGLU's backward pass. Shapes: `T` tokens, `F` intermediate_size.

use super::super::exp::exp;
use super::super::isa::{Isa, kernel};
use super::super::scratch::Shared;
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::piece;

/// Rows of a task hold about this many gates.
const ELEMENTS_PER_TASK: usize = 8 * 1024;

/// Gradient of `silu(gate) up` with respect to `gate_up: [T, 2F]`, for `grad: [T, F]`.
///
/// ```text
/// s = 1 / (1 + e^-gate),  dgate = grad up s (1 + gate (1 - s)),  dup = grad gate s
/// ```
///
/// # Panics
/// Where the lengths of the slices contradict each other.
pub fn swiglu_backward(gate_up: &[f32], grad: &[f32], intermediate_size: usize, out: &mut [f32]) {
    let f = intermediate_size;
    assert_eq!(gate_up.len(), 2 * grad.len(), "gate_up is not twice as long as grad");
    assert_eq!(gate_up.len(), out.len(), "gate_up and its gradient differ in length");
    if f == 0 || grad.is_empty() {
        assert!(grad.is_empty(), "grad has {} elements, but F = 0", grad.len());
        return;
    }
    let t = grad.len() / f;
    assert_eq!(grad.len(), t * f, "grad has {} elements, not a multiple of F = {f}", grad.len());
    let isa = Isa::current();
    let rows = (ELEMENTS_PER_TASK / f).max(1);
    let shared = Shared(out.as_mut_ptr());
    team::parallel_for(t.div_ceil(rows), |task| {
        for row in task * rows..t.min((task + 1) * rows) {
            let (gate, up) = gate_up[2 * f * row..][..2 * f].split_at(f);
            // SAFETY: only this task writes row `row`; all slices have `f` elements.
            unsafe {
                let (dgate, dup) = piece(shared, 2 * f * row, 2 * f).split_at_mut(f);
                gate_row(isa, gate, up, &grad[f * row..][..f], dgate, dup);
            }
        }
    });
}

kernel! {
    /// One row.
    ///
    /// # Safety
    /// All slices have the length of `gate`.
    unsafe fn gate_row(
        gate: &[f32], up: &[f32], grad: &[f32], dgate: &mut [f32], dup: &mut [f32],
    ) = gate_row_on;
}

/// See [`gate_row`].
#[inline(always)]
unsafe fn gate_row_on<S: Simd>(
    gate: &[f32],
    up: &[f32],
    grad: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    let (whole, rest) = (gate.len() / LANES * LANES, gate.len() % LANES);
    let (gate, up, grad) = (gate.as_ptr(), up.as_ptr(), grad.as_ptr());
    let (dgate, dup) = (dgate.as_mut_ptr(), dup.as_mut_ptr());
    // SAFETY: every pointer is good for `whole + rest` elements.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            let (g, u) = (S::load(gate.add(i)), S::load(up.add(i)));
            let (dg, du) = slopes(g, u, S::load(grad.add(i)));
            dg.store(dgate.add(i));
            du.store(dup.add(i));
        }
        if rest > 0 {
            let (g, u) = (S::load_part(gate.add(whole), rest), S::load_part(up.add(whole), rest));
            let (dg, du) = slopes(g, u, S::load_part(grad.add(whole), rest));
            dg.store_part(dgate.add(whole), rest);
            du.store_part(dup.add(whole), rest);
        }
    }
}

#[inline(always)]
unsafe fn slopes<S: Simd>(gate: S, up: S, grad: S) -> (S, S) {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let one = S::splat(1.0);
        let s = one.div(one.add(exp(S::zero().sub(gate))));
        let dup = grad.mul(gate.mul(s));
        let slope = gate.fma(one.sub(s), one).mul(s);
        (grad.mul(up).mul(slope), dup)
    }
}
