//! AVX-512 VNNI: one zmm register.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "each method is a few intrinsics under the one contract stated at `Simd`"
)]

use core::arch::x86_64::*;

use super::super::avx512::Avx512;
use super::dot::Dot;

/// Sixteen sums in a zmm register.
#[derive(Clone, Copy)]
pub(super) struct Zmm(__m512i);

impl Dot for Zmm {
    type Float = Avx512;
    type Codes = __m512i;
    type Quad = __m512i;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }

    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [__m512i; 2] {
        let (both, mask) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(15));
        [_mm512_and_si512(both, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask)]
    }

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> __m512i {
        _mm512_set1_epi32(from.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn dot_bytes(self, weights: __m512i, activations: __m512i) -> Self {
        Self(_mm512_dpbusd_epi32(self.0, weights, activations))
    }

    #[inline(always)]
    unsafe fn dot_nibbles(self, weights: __m512i, activations: __m512i) -> Self {
        Self(_mm512_dpbusd_epi32(self.0, weights, activations))
    }

    #[inline(always)]
    unsafe fn to_float(self) -> Avx512 {
        Avx512(_mm512_cvtepi32_ps(self.0))
    }
}
