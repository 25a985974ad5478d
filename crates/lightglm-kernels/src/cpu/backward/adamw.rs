//! AdamW's step, and the sum of squares that clipping needs.

use crate::gradients::AdamWStep;

use super::super::isa::{Isa, kernel};
use super::super::scratch::Shared;
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::piece;

/// Elements of a task. Part of [`sum_of_squares`]' numerical contract.
const ELEMENTS_PER_TASK: usize = 16 * 1024;

/// One step on `parameter` and its moments; see [`crate::LmGradients::adamw`].
///
/// # Panics
/// Where the slices differ in length.
pub fn adamw(
    parameter: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    grad: &[f32],
    step: &AdamWStep,
) {
    let n = grad.len();
    assert_eq!(n, parameter.len(), "parameter and gradient differ in length");
    assert_eq!(n, first.len(), "first moment and gradient differ in length");
    assert_eq!(n, second.len(), "second moment and gradient differ in length");
    let isa = Isa::current();
    let [p, m, v] = [parameter, first, second].map(|x| Shared(x.as_mut_ptr()));
    team::parallel_for(n.div_ceil(ELEMENTS_PER_TASK), |task| {
        let start = task * ELEMENTS_PER_TASK;
        let len = ELEMENTS_PER_TASK.min(n - start);
        let grad = &grad[start..][..len];
        // SAFETY: only this task writes these elements; all slices have `len`.
        unsafe {
            let (p, m, v) = (piece(p, start, len), piece(m, start, len), piece(v, start, len));
            update(isa, p, m, v, grad, step);
        }
    });
}

/// The sum of squares of all elements, in f64, in an order that does not depend on threads.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let (isa, tasks) = (Isa::current(), x.len().div_ceil(ELEMENTS_PER_TASK));
    let mut sums = vec![0.0f32; tasks];
    let out = Shared(sums.as_mut_ptr());
    team::parallel_for(tasks, |task| {
        let start = task * ELEMENTS_PER_TASK;
        let x = &x[start..x.len().min(start + ELEMENTS_PER_TASK)];
        // SAFETY: only this task writes element `task`.
        unsafe { piece(out, task, 1)[0] = squares(isa, x) };
    });
    sums.into_iter().map(f64::from).sum()
}

kernel! {
    /// The sum of squares.
    ///
    /// # Safety
    /// None beyond the instruction set.
    unsafe fn squares(x: &[f32]) -> f32 = squares_on;
}

/// See [`squares`].
#[inline(always)]
unsafe fn squares_on<S: Simd>(x: &[f32]) -> f32 {
    let (whole, rest) = (x.len() / LANES * LANES, x.len() % LANES);
    let x = x.as_ptr();
    // SAFETY: the pointer is good for `whole + rest` elements.
    unsafe {
        let mut sum = S::zero();
        for i in (0..whole).step_by(LANES) {
            let v = S::load(x.add(i));
            sum = v.fma(v, sum);
        }
        if rest > 0 {
            let v = S::load_part(x.add(whole), rest);
            sum = v.fma(v, sum);
        }
        sum.reduce_add()
    }
}

kernel! {
    /// A piece of a parameter.
    ///
    /// # Safety
    /// All slices have the same length.
    unsafe fn update(
        p: &mut [f32], m: &mut [f32], v: &mut [f32], grad: &[f32], step: &AdamWStep,
    ) = update_on;
}

/// See [`update`].
#[inline(always)]
unsafe fn update_on<S: Simd>(
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    grad: &[f32],
    step: &AdamWStep,
) {
    // Square roots elementwise: the compiler vectorizes this loop for the instruction set that
    // `kernel!` compiles it for.
    let _ = S::WIDE;
    let whole = p.len();
    let (p, m, v, grad) = (&mut p[..whole], &mut m[..whole], &mut v[..whole], &grad[..whole]);
    for i in 0..whole {
        let g = grad[i] * step.grad_scale;
        m[i] = m[i] * step.beta1 + g * (1.0 - step.beta1);
        v[i] = v[i] * step.beta2 + g * g * (1.0 - step.beta2);
        let denominator = v[i].sqrt() / step.second_root + step.eps;
        p[i] = p[i] * step.decay - m[i] / denominator * step.step_size;
    }
}
