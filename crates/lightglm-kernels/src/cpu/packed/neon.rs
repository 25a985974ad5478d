//! NEON, with and without the dot product extension: four q registers.
//!
//! Both multiply signed codes with signed codes, so that 128 is taken off the codes of bytes
//! ([`super::DotIsa::byte_bias`]).
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "each method is a few intrinsics under the one contract stated at `Simd`"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use core::arch::aarch64::*;
use core::arch::asm;
use std::marker::PhantomData;

use super::super::neon::Neon;
use super::dot::Dot;

/// How a q register does four four-byte dot products of signed codes.
pub(super) trait Product: Copy {
    unsafe fn dot(sums: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t;
}

/// `sdot`, whose intrinsic is not stable.
#[derive(Clone, Copy)]
pub(super) struct Sdot;

/// `smull` and pairwise additions.
#[derive(Clone, Copy)]
pub(super) struct Widened;

impl Product for Sdot {
    #[inline(always)]
    unsafe fn dot(mut sums: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {weights:v}.16b, {activations:v}.16b",
            sums = inout(vreg) sums,
            weights = in(vreg) weights,
            activations = in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags)
        );
        sums
    }
}

impl Product for Widened {
    #[inline(always)]
    unsafe fn dot(sums: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(activations));
        let high = vmull_high_s8(weights, activations);
        vaddq_s32(sums, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
    }
}

/// Sums 0..4, 4..8, 8..12 and 12..16 in four q registers.
#[derive(Clone, Copy)]
pub(super) struct Quads<P>([int32x4_t; 4], PhantomData<P>);

impl<P: Product> Dot for Quads<P> {
    type Float = Neon;
    type Codes = [int8x16_t; 4];
    type Quad = int8x16_t;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self([vdupq_n_s32(value); 4], PhantomData)
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> [int8x16_t; 4] {
        let mut codes = [vdupq_n_s8(0); 4];
        for (i, code) in codes.iter_mut().enumerate() {
            let bytes = veorq_u8(vld1q_u8(from.add(i * 16)), vdupq_n_u8(0x80));
            *code = vreinterpretq_s8_u8(bytes);
        }
        codes
    }

    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [[int8x16_t; 4]; 2] {
        let mut codes = [[vdupq_n_s8(0); 4]; 2];
        for i in 0..4 {
            let both = vld1q_u8(from.add(i * 16));
            codes[0][i] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
            codes[1][i] = vreinterpretq_s8_u8(vshrq_n_u8::<4>(both));
        }
        codes
    }

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> int8x16_t {
        vreinterpretq_s8_s32(vdupq_n_s32(from.cast::<i32>().read_unaligned()))
    }

    #[inline(always)]
    unsafe fn dot(mut self, weights: [int8x16_t; 4], activations: int8x16_t) -> Self {
        for (sums, weights) in self.0.iter_mut().zip(weights) {
            *sums = P::dot(*sums, weights, activations);
        }
        self
    }

    #[inline(always)]
    unsafe fn interleave_bytes(channels: [*const u8; 4]) -> [[int8x16_t; 4]; 4] {
        interleave(channels)
            .map(|rows| rows.map(|codes| vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)))))
    }

    #[inline(always)]
    unsafe fn interleave_nibbles(channels: [*const u8; 4]) -> [[int8x16_t; 4]; 8] {
        let mut codes = [[vdupq_n_s8(0); 4]; 8];
        for (i, both) in interleave(channels).into_iter().enumerate() {
            codes[i] = both.map(|x| vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15))));
            codes[4 + i] = both.map(|x| vreinterpretq_s8_u8(vshrq_n_u8::<4>(x)));
        }
        codes
    }

    #[inline(always)]
    unsafe fn store_bytes(codes: [int8x16_t; 4], to: *mut u8) {
        for (i, codes) in codes.into_iter().enumerate() {
            vst1q_u8(to.add(i * 16), veorq_u8(vreinterpretq_u8_s8(codes), vdupq_n_u8(0x80)));
        }
    }

    #[inline(always)]
    unsafe fn store_nibbles(low: [int8x16_t; 4], high: [int8x16_t; 4], to: *mut u8) {
        for (i, (low, high)) in low.into_iter().zip(high).enumerate() {
            let high = vshlq_n_u8::<4>(vreinterpretq_u8_s8(high));
            vst1q_u8(to.add(i * 16), vorrq_u8(vreinterpretq_u8_s8(low), high));
        }
    }

    #[inline(always)]
    unsafe fn to_float(self) -> Neon {
        let [a, b, c, d] = self.0;
        Neon([vcvtq_f32_s32(a), vcvtq_f32_s32(b), vcvtq_f32_s32(c), vcvtq_f32_s32(d)])
    }
}

/// The bytes of four channels side by side: `[r][l]` has the rows `16 r + 4 l ..` of a block.
#[inline(always)]
unsafe fn interleave(channels: [*const u8; 4]) -> [[uint8x16_t; 4]; 4] {
    let mut rows = [[vdupq_n_u8(0); 4]; 4];
    for l in 0..4 {
        let [a, b, c, d] = channels.map(|from| vld1q_u8(from.add(l * 16)));
        let halves = [(vzip1q_u8(a, b), vzip1q_u8(c, d)), (vzip2q_u8(a, b), vzip2q_u8(c, d))];
        for (half, (ab, cd)) in halves.into_iter().enumerate() {
            let (ab, cd) = (vreinterpretq_u16_u8(ab), vreinterpretq_u16_u8(cd));
            rows[2 * half][l] = vreinterpretq_u8_u16(vzip1q_u16(ab, cd));
            rows[2 * half + 1][l] = vreinterpretq_u8_u16(vzip2q_u16(ab, cd));
        }
    }
    rows
}
