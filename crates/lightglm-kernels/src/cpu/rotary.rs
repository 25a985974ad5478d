//! Rotary position embedding on interleaved pairs.
//!
//! Shapes: `T` tokens, `H` heads, `d` head_dim, `r` rotary_dim.

use super::isa::{Isa, kernel};
use super::scratch::{Shared, with_scratch};
use super::simd::{LANES, Simd};
use super::team;

/// Rows of a task hold about this many elements.
const ELEMENTS_PER_TASK: usize = 32 * 1024;

/// Rotates the first `rotary_dim` numbers of each head of `x: [T, H * d]` in place, in pairs
/// `(2i, 2i + 1)`, by the angles whose cosines and sines are `cos, sin: [T, r / 2]`.
///
/// ```text
/// y[2i]     = x[2i]     cos[i] - x[2i + 1] sin[i]
/// y[2i + 1] = x[2i + 1] cos[i] + x[2i]     sin[i]
/// ```
///
/// Source: Su et al. 2021, "RoFormer"; `apply_rotary_pos_emb` of `modeling_glm4.py` in Hugging Face
/// transformers.
///
/// # Panics
/// Where `rotary_dim` is odd or larger than `head_dim`, or lengths contradict each other.
pub fn rotary(
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    rotary_dim: usize,
    cos: &[f32],
    sin: &[f32],
) {
    assert!(rotary_dim.is_multiple_of(2), "rotary_dim {rotary_dim} is odd");
    assert!(rotary_dim <= head_dim, "rotary_dim {rotary_dim} is above head_dim {head_dim}");
    assert_eq!(cos.len(), sin.len(), "cos and sin differ in length");
    let width = heads * head_dim;
    if width == 0 {
        assert!(x.is_empty(), "x has {} elements, but H * d = 0", x.len());
        return;
    }
    let t = x.len() / width;
    assert_eq!(x.len(), t * width, "x has {} elements, not a multiple of {width}", x.len());
    let half = rotary_dim / 2;
    assert_eq!(cos.len(), t * half, "cos has {} elements, not T * r / 2 = {t} * {half}", cos.len());
    if half == 0 {
        return;
    }
    let isa = Isa::current();
    let rows = (ELEMENTS_PER_TASK / width).max(1);
    let out = Shared(x.as_mut_ptr());
    team::parallel_for(t.div_ceil(rows), |task| {
        with_scratch(2 * rotary_dim, |angles| {
            for row in task * rows..t.min((task + 1) * rows) {
                spread(&cos[row * half..][..half], &sin[row * half..][..half], angles);
                // SAFETY: row `row` of `x` lies inside of it, and only this task touches it.
                let x =
                    unsafe { std::slice::from_raw_parts_mut(out.get().add(row * width), width) };
                // SAFETY: `x` holds whole heads, `angles` twice `rotary_dim <= head_dim` numbers.
                unsafe { rotate_row(isa, x, head_dim, angles) };
            }
        });
    });
}

/// Writes `c0 c0 c1 c1 ...` and, behind it, `-s0 s0 -s1 s1 ...`.
fn spread(cos: &[f32], sin: &[f32], angles: &mut [f32]) {
    let (cosines, sines) = angles.split_at_mut(2 * cos.len());
    for i in 0..cos.len() {
        cosines[2 * i] = cos[i];
        cosines[2 * i + 1] = cos[i];
        sines[2 * i] = -sin[i];
        sines[2 * i + 1] = sin[i];
    }
}

kernel! {
    /// One row.
    ///
    /// # Safety
    /// `x` holds whole heads of `head_dim`; `angles` has at most `2 * head_dim` elements.
    unsafe fn rotate_row(x: &mut [f32], head_dim: usize, angles: &[f32]) = rotate_row_on;
}

/// See [`rotate_row`].
#[inline(always)]
unsafe fn rotate_row_on<S: Simd>(x: &mut [f32], head_dim: usize, angles: &[f32]) {
    let rotary_dim = angles.len() / 2;
    let whole = rotary_dim / LANES * LANES;
    let rest = rotary_dim - whole;
    let cosines = angles.as_ptr();
    for head in x.chunks_exact_mut(head_dim) {
        let head = head.as_mut_ptr();
        // SAFETY: a head has `head_dim >= rotary_dim` elements, and so has each half of `angles`.
        unsafe {
            let sines = cosines.add(rotary_dim);
            for i in (0..whole).step_by(LANES) {
                let v = S::load(head.add(i));
                let turned = v.swap_pairs().mul(S::load(sines.add(i)));
                v.fma(S::load(cosines.add(i)), turned).store(head.add(i));
            }
            if rest > 0 {
                let v = S::load_part(head.add(whole), rest);
                let turned = v.swap_pairs().mul(S::load_part(sines.add(whole), rest));
                let turned = v.fma(S::load_part(cosines.add(whole), rest), turned);
                turned.store_part(head.add(whole), rest);
            }
        }
    }
}
