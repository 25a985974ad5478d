//! Cross-entropy, forward and backward. Shapes: `R` rows, `V` vocab_size.

use super::super::exp::exp;
use super::super::isa::{Isa, kernel};
use super::super::scratch::Shared;
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::piece;

/// `-log softmax(logits)[target]` of each row: `logits: [R, V]`, `targets, losses: [R]`.
///
/// # Panics
/// Where the lengths of the slices contradict each other or a target is not below `V`.
pub fn cross_entropy(logits: &[f32], targets: &[u32], losses: &mut [f32]) {
    let v = width(logits, targets, losses);
    let (isa, out) = (Isa::current(), Shared(losses.as_mut_ptr()));
    team::parallel_for(targets.len(), |row| {
        let logits = &logits[row * v..][..v];
        // SAFETY: only this task writes element `row`.
        let loss = unsafe { piece(out, row, 1) };
        // SAFETY: a slice may have any length.
        let (largest, sum) = unsafe { largest_and_sum(isa, logits) };
        loss[0] = f64::from(sum).ln() as f32 + (largest - logits[targets[row] as usize]);
    });
}

/// `dlogits[r, v] = grad[r] (softmax(logits[r])[v] - (v = targets[r]))`, with `losses` from
/// [`cross_entropy`].
///
/// # Panics
/// As [`cross_entropy`].
pub fn cross_entropy_backward(
    logits: &[f32],
    targets: &[u32],
    losses: &[f32],
    grad: &[f32],
    dlogits: &mut [f32],
) {
    let v = width(logits, targets, losses);
    assert_eq!(grad.len(), losses.len(), "grad and losses differ in length");
    assert_eq!(dlogits.len(), logits.len(), "logits and their gradient differ in length");
    let (isa, out) = (Isa::current(), Shared(dlogits.as_mut_ptr()));
    team::parallel_for(targets.len(), |row| {
        let logits = &logits[row * v..][..v];
        let target = targets[row] as usize;
        let log_sum = losses[row] + logits[target];
        // SAFETY: only this task writes row `row`, and both slices have `v` elements.
        unsafe {
            let dlogits = piece(out, row * v, v);
            scaled_softmax(isa, logits, log_sum, grad[row], dlogits);
            dlogits[target] -= grad[row];
        }
    });
}

fn width(logits: &[f32], targets: &[u32], losses: &[f32]) -> usize {
    let r = targets.len();
    assert_eq!(losses.len(), r, "losses and targets differ in length");
    let v = logits.len().checked_div(r).unwrap_or(0);
    assert_eq!(logits.len(), r * v, "logits do not have {r} rows");
    let beyond = targets.iter().find(|&&target| target as usize >= v);
    assert_eq!(beyond, None, "a target is not below the {v} logits");
    v
}

kernel! {
    /// The largest of `x`, and `sum(e^(x - largest))`.
    ///
    /// # Safety
    /// None beyond the instruction set.
    unsafe fn largest_and_sum(x: &[f32]) -> (f32, f32) = largest_and_sum_on;
}

/// See [`largest_and_sum`]. A NaN comes through in the sum.
#[inline(always)]
unsafe fn largest_and_sum_on<S: Simd>(x: &[f32]) -> (f32, f32) {
    let (whole, rest) = (x.len() / LANES * LANES, x.len() % LANES);
    let x = x.as_ptr();
    // SAFETY: the pointer is good for `whole + rest` elements.
    unsafe {
        let mut largest = S::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(LANES) {
            largest = S::load(x.add(i)).max(largest);
        }
        if rest > 0 {
            let tail = S::load_part(x.add(whole), rest).keep_first(rest, f32::NEG_INFINITY);
            largest = tail.max(largest);
        }
        let largest = largest.reduce_max();
        let shift = S::splat(largest);
        let mut sum = S::zero();
        for i in (0..whole).step_by(LANES) {
            sum = sum.add(exp(S::load(x.add(i)).sub(shift)));
        }
        if rest > 0 {
            let tail = exp(S::load_part(x.add(whole), rest).sub(shift));
            sum = sum.add(tail.keep_first(rest, 0.0));
        }
        (largest, sum.reduce_add())
    }
}

kernel! {
    /// `y = scale e^(x - log_sum)`.
    ///
    /// # Safety
    /// Both slices have the same length.
    unsafe fn scaled_softmax(
        x: &[f32], log_sum: f32, scale: f32, y: &mut [f32],
    ) = scaled_softmax_on;
}

/// See [`scaled_softmax`].
#[inline(always)]
unsafe fn scaled_softmax_on<S: Simd>(x: &[f32], log_sum: f32, scale: f32, y: &mut [f32]) {
    let (whole, rest) = (x.len() / LANES * LANES, x.len() % LANES);
    let (x, y) = (x.as_ptr(), y.as_mut_ptr());
    // SAFETY: both pointers are good for `whole + rest` elements.
    unsafe {
        let (shift, scale) = (S::splat(log_sum), S::splat(scale));
        for i in (0..whole).step_by(LANES) {
            exp(S::load(x.add(i)).sub(shift)).mul(scale).store(y.add(i));
        }
        if rest > 0 {
            let tail = exp(S::load_part(x.add(whole), rest).sub(shift)).mul(scale);
            tail.store_part(y.add(whole), rest);
        }
    }
}
