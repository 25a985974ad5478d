//! Between f32 and the stored precisions, and rows of an embedding.

use super::element::Element;
use super::isa::{Isa, kernel};
use super::kv::KvSliceMut;
use super::scratch::Shared;
use super::simd::{LANES, Simd};
use super::team;
use super::weights::Weights;

/// Elements of one task.
const ELEMENTS_PER_TASK: usize = 64 * 1024;

/// Writes the elements of `from` to `to` as f32, which is exact.
///
/// # Panics
/// Where the lengths differ.
pub fn convert_to_f32(from: Weights<'_>, to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "from and to differ in length");
    let isa = Isa::current();
    let len = to.len();
    let out = Shared(to.as_mut_ptr());
    team::parallel_for(len.div_ceil(ELEMENTS_PER_TASK), |task| {
        let start = task * ELEMENTS_PER_TASK;
        let end = len.min(start + ELEMENTS_PER_TASK);
        // SAFETY: the range lies inside of `to`, and only this task writes it.
        let to = unsafe { std::slice::from_raw_parts_mut(out.get().add(start), end - start) };
        widen_range(isa, from, start, to);
    });
}

/// Writes the elements of `from` to `to`, rounded to nearest even.
///
/// # Panics
/// Where the lengths differ.
pub fn convert_from_f32(from: &[f32], to: KvSliceMut<'_>) {
    assert_eq!(from.len(), to.len(), "from and to differ in length");
    match to {
        KvSliceMut::F32(to) => to.copy_from_slice(from),
        KvSliceMut::F16(to) => narrow_all(from, to),
        KvSliceMut::Bf16(to) => narrow_all(from, to),
    }
}

/// `out[i] = w[ids[i]]` as f32 for `w: [V, D]`, `ids: [T]`, `out: [T, D]`; `hidden_size` is `D`.
///
/// # Panics
/// Where an id is not below `V`, or lengths contradict each other.
pub fn gather_rows(w: Weights<'_>, hidden_size: usize, ids: &[u32], out: &mut [f32]) {
    let d = hidden_size;
    assert_eq!(out.len(), ids.len() * d, "out does not have T * D elements");
    if d == 0 {
        return;
    }
    assert!(w.len().is_multiple_of(d), "weights are not a multiple of D = {d} long");
    let isa = Isa::current();
    for (&id, out) in ids.iter().zip(out.chunks_exact_mut(d)) {
        let start = id as usize * d;
        assert!(start + d <= w.len(), "id {id} is not below V = {}", w.len() / d);
        widen_range(isa, w, start, out);
    }
}

/// `from[start..start + to.len()]`, which must exist, as f32.
fn widen_range(isa: Isa, from: Weights<'_>, start: usize, to: &mut [f32]) {
    let range = start..start + to.len();
    match from {
        Weights::F32(from) => to.copy_from_slice(&from[range]),
        // SAFETY: both slices have the same length.
        Weights::F16(from) => unsafe { widen(isa, &from[range], to) },
        // SAFETY: both slices have the same length.
        Weights::Bf16(from) => unsafe { widen(isa, &from[range], to) },
    }
}

fn narrow_all<E: Element>(from: &[f32], to: &mut [E]) {
    let isa = Isa::current();
    let out = Shared(to.as_mut_ptr());
    team::parallel_for(from.len().div_ceil(ELEMENTS_PER_TASK), |task| {
        let start = task * ELEMENTS_PER_TASK;
        let end = from.len().min(start + ELEMENTS_PER_TASK);
        // SAFETY: the range lies inside of `to`, which is as long as `from`, and only this task
        // writes it.
        let to = unsafe { std::slice::from_raw_parts_mut(out.get().add(start), end - start) };
        // SAFETY: both slices have the same length.
        unsafe { narrow(isa, &from[start..end], to) };
    });
}

kernel! {
    /// # Safety
    /// Both slices have the same length.
    unsafe fn widen<E: Element>(from: &[E], to: &mut [f32]) = widen_on;
}

kernel! {
    /// # Safety
    /// Both slices have the same length.
    unsafe fn narrow<E: Element>(from: &[f32], to: &mut [E]) = narrow_on;
}

#[inline(always)]
unsafe fn widen_on<S: Simd, E: Element>(from: &[E], to: &mut [f32]) {
    let whole = to.len() / LANES * LANES;
    let rest = to.len() - whole;
    // SAFETY: both slices have `whole + rest` elements.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            E::load::<S>(from.as_ptr().add(i)).store(to.as_mut_ptr().add(i));
        }
        if rest > 0 {
            let last: S = E::load_part(from.as_ptr().add(whole), rest);
            last.store_part(to.as_mut_ptr().add(whole), rest);
        }
    }
}

#[inline(always)]
unsafe fn narrow_on<S: Simd, E: Element>(from: &[f32], to: &mut [E]) {
    let whole = to.len() / LANES * LANES;
    // SAFETY: both slices have the same length, of which `whole` is not past the end.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            E::store(S::load(from.as_ptr().add(i)), to.as_mut_ptr().add(i));
        }
    }
    for (to, &from) in to[whole..].iter_mut().zip(&from[whole..]) {
        *to = E::from_f32(from);
    }
}
