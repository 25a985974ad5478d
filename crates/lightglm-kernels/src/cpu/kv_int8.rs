//! One layer's KV pool in eight-bit codes: its layout, quantization, and how new positions get in.
//!
//! Shapes: `T` tokens, `Kh` kv heads, `d` head_dim, `d4` head_dim rounded up to a multiple of four,
//! `P` blocks of 16 positions. Key codes are `[P, Kh, d4 / 4, 16, 4]`, value codes
//! `[P, Kh, 4, d4, 4]`, scales `[P, Kh, 16]` ([`lightglm_core::Int8KvLayer`]).

use lightglm_core::KV_BLOCK;

use super::attention::AttentionShape;
use super::isa::{Isa, kernel};
use super::kv::{AttentionSpan, check_spans};
use super::scratch::{Shared, with_scratch};
use super::simd::Simd;
use super::team;

/// A pool of codes to read.
#[derive(Clone, Copy, Debug)]
pub struct Int8Pool<'a> {
    /// `[P, Kh, d4 / 4, 16, 4]`.
    pub key_codes: &'a [i8],
    /// `[P, Kh, 16]`.
    pub key_scales: &'a [f32],
    /// `[P, Kh, 4, d4, 4]`.
    pub value_codes: &'a [i8],
    /// `[P, Kh, 16]`.
    pub value_scales: &'a [f32],
    /// Whether keys are stored under [`rotate_head`].
    pub rotate_keys: bool,
}

/// A pool of codes to write.
#[derive(Debug)]
pub struct Int8PoolMut<'a> {
    /// `[P, Kh, d4 / 4, 16, 4]`.
    pub key_codes: &'a mut [i8],
    /// `[P, Kh, 16]`.
    pub key_scales: &'a mut [f32],
    /// `[P, Kh, 4, d4, 4]`.
    pub value_codes: &'a mut [i8],
    /// `[P, Kh, 16]`.
    pub value_scales: &'a mut [f32],
    /// Whether to store keys under [`rotate_head`].
    pub rotate_keys: bool,
}

impl Int8Pool<'_> {
    /// The number of blocks `P`.
    ///
    /// # Panics
    /// Where lengths contradict each other or the shape.
    pub(super) fn blocks(&self, shape: AttentionShape) -> usize {
        let lengths = [
            self.key_codes.len(),
            self.value_codes.len(),
            self.key_scales.len(),
            self.value_scales.len(),
        ];
        blocks(lengths, shape)
    }
}

/// Blocks of pools with these numbers of key codes, value codes, key scales and value scales.
fn blocks(lengths: [usize; 4], shape: AttentionShape) -> usize {
    let scales = shape.kv_heads * KV_BLOCK;
    let codes = scales * shape.head_dim.next_multiple_of(4);
    let blocks = lengths[2] / scales;
    let expected = [blocks * codes, blocks * codes, blocks * scales, blocks * scales];
    assert_eq!(lengths, expected, "lengths of the pools' codes and scales");
    blocks
}

/// Replaces `head: [d]` by its orthonormal Walsh-Hadamard transform, over runs of the largest power
/// of two `n` that divides `d`.
///
/// ```text
/// y[r n + i] = 1 / sqrt(n) * sum over j of (-1)^popcount(i & j) x[r n + j]
/// ```
///
/// Scores of a rotated query with rotated keys are those of the plain ones.
///
/// Source: Ashkboos et al. 2024, "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", section 4.
pub fn rotate_head(head: &mut [f32]) {
    if !head.is_empty() {
        // SAFETY: there is no contract beyond the instruction set.
        unsafe { rotate(Isa::current(), head) };
    }
}

kernel! {
    /// See [`rotate_head`]; `head` is not empty.
    ///
    /// # Safety
    /// None beyond the instruction set.
    pub(super) unsafe fn rotate(head: &mut [f32]) = rotate_on;
}

#[inline(always)]
unsafe fn rotate_on<S: Simd>(head: &mut [f32]) {
    let n = 1usize << head.len().trailing_zeros();
    if n == 1 {
        return;
    }
    let factor = 1.0 / (n as f32).sqrt();
    for run in head.chunks_exact_mut(n) {
        let mut half = 1;
        while half < n {
            for pair in run.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        for x in run {
            *x *= factor;
        }
    }
}

/// The largest magnitude; NaN where there is one.
#[inline(always)]
pub(super) fn largest_magnitude(x: &[f32]) -> f32 {
    // Magnitudes are ordered as their bits are, and NaN comes last.
    f32::from_bits(x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7fff_ffff)))
}

/// The integer nearest to `x`, ties to even, for `|x| < 2^22`; anything for other numbers.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the integer in the lowest mantissa bits.
    ((x + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4B40_0000)
}

kernel! {
    /// Quantizes a head and returns its scale, NaN where `x` has a number that is not finite.
    ///
    /// # Safety
    /// None beyond the instruction set; `codes` is as long as `x`.
    unsafe fn quantize(x: &[f32], codes: &mut [i8]) -> f32 = quantize_on;
}

#[inline(always)]
unsafe fn quantize_on<S: Simd>(x: &[f32], codes: &mut [i8]) -> f32 {
    let most = largest_magnitude(x);
    if !most.is_finite() {
        codes.fill(0);
        return f32::NAN;
    }
    let scale = if most / 127.0 == 0.0 { 1.0 } else { most / 127.0 };
    for (code, x) in codes.iter_mut().zip(x) {
        *code = nearest((x / scale).clamp(-127.0, 127.0)) as i8;
    }
    scale
}

/// Writes the keys and values of new positions into their blocks, quantized per head and token.
///
/// `k, v: [T, Kh * d]`. Where a head has a number that is not finite, its scale is NaN, and so is
/// whatever attends to it.
///
/// # Panics
/// As [`super::append_kv`].
pub fn append_kv_int8(
    k: &[f32],
    v: &[f32],
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    pool: Int8PoolMut<'_>,
) {
    /// Below this, the fork costs more than the work.
    const MIN_PARALLEL: usize = 4 * 1024;
    let (kv_heads, d) = (shape.kv_heads, shape.head_dim);
    let width = kv_heads * d;
    assert_eq!(k.len(), v.len(), "k and v differ in length");
    if width == 0 {
        assert!(k.is_empty(), "k has {} elements, but Kh * d = 0", k.len());
        return;
    }
    assert_eq!(k.len() % width, 0, "k has {} elements, not a multiple of {width}", k.len());
    let lengths = [
        pool.key_codes.len(),
        pool.value_codes.len(),
        pool.key_scales.len(),
        pool.value_scales.len(),
    ];
    check_spans(spans, k.len() / width, blocks(lengths, shape));
    let isa = Isa::current();
    let rotate_keys = pool.rotate_keys;
    let key_codes = Shared(pool.key_codes.as_mut_ptr());
    let value_codes = Shared(pool.value_codes.as_mut_ptr());
    let key_scales = Shared(pool.key_scales.as_mut_ptr());
    let value_scales = Shared(pool.value_scales.as_mut_ptr());
    let d4 = d.next_multiple_of(4);
    // A head's part of every block is its own, so heads can go to different threads whatever the
    // spans say.
    let heads_per_task = if k.len() < MIN_PARALLEL { kv_heads } else { 1 };
    let write_head = |head: usize, plain: &mut [f32], codes: &mut [i8]| {
        for span in spans {
            for i in 0..span.rows {
                let position = span.past + i;
                let block = span.block_table[position / KV_BLOCK] as usize * kv_heads + head;
                let offset = position % KV_BLOCK;
                let start = (span.first_row + i) * width + head * d;
                plain.copy_from_slice(&k[start..start + d]);
                // SAFETY: `check_spans` has checked that the block lies in the pools, where
                // this head's codes are `block * 16 * d4..` and its scales `block * 16..`; no other
                // task touches this head.
                unsafe {
                    if rotate_keys {
                        rotate(isa, plain);
                    }
                    let scale = quantize(isa, plain, &mut codes[..d]);
                    key_scales.get().add(block * KV_BLOCK + offset).write(scale);
                    let keys = key_codes.get().add(block * KV_BLOCK * d4 + offset * 4);
                    for (c, &code) in codes.iter().enumerate() {
                        keys.add(c / 4 * (4 * KV_BLOCK) + c % 4).write(code);
                    }
                    let scale = quantize(isa, &v[start..start + d], &mut codes[..d]);
                    value_scales.get().add(block * KV_BLOCK + offset).write(scale);
                    let values = value_codes
                        .get()
                        .add(block * KV_BLOCK * d4 + offset / 4 * (4 * d4) + offset % 4);
                    for (c, &code) in codes.iter().enumerate() {
                        values.add(c * 4).write(code);
                    }
                }
            }
        }
    };
    team::parallel_for(kv_heads / heads_per_task, |task| {
        with_scratch(d + d4 / 4, |scratch| {
            let (plain, codes) = scratch.split_at_mut(d);
            codes.fill(0.0);
            // SAFETY: `d4 / 4` f32 are `d4` bytes; every bit pattern is an i8.
            let codes =
                unsafe { std::slice::from_raw_parts_mut(codes.as_mut_ptr().cast::<i8>(), d4) };
            for head in task * heads_per_task..(task + 1) * heads_per_task {
                write_head(head, plain, codes);
            }
        });
    });
}
