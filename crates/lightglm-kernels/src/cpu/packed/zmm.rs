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
    unsafe fn dot(self, weights: __m512i, activations: __m512i) -> Self {
        Self(_mm512_dpbusd_epi32(self.0, weights, activations))
    }

    #[inline(always)]
    unsafe fn interleave_bytes(channels: [*const u8; 4]) -> [__m512i; 4] {
        let [a, b, c, d] = channels.map(|from| Self::load_bytes(from));
        let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
        [
            _mm512_unpacklo_epi16(ab, cd),
            _mm512_unpackhi_epi16(ab, cd),
            _mm512_unpacklo_epi16(ab_high, cd_high),
            _mm512_unpackhi_epi16(ab_high, cd_high),
        ]
    }

    #[inline(always)]
    unsafe fn interleave_nibbles(channels: [*const u8; 4]) -> [__m512i; 8] {
        let mask = _mm512_set1_epi8(15);
        let mut codes = [_mm512_setzero_si512(); 8];
        for (i, both) in Self::interleave_bytes(channels).into_iter().enumerate() {
            codes[i] = _mm512_and_si512(both, mask);
            codes[4 + i] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
        }
        codes
    }

    #[inline(always)]
    unsafe fn store_bytes(codes: __m512i, to: *mut u8) {
        _mm512_storeu_si512(to.cast(), codes);
    }

    #[inline(always)]
    unsafe fn store_nibbles(low: __m512i, high: __m512i, to: *mut u8) {
        _mm512_storeu_si512(to.cast(), _mm512_or_si512(low, _mm512_slli_epi16::<4>(high)));
    }

    #[inline(always)]
    unsafe fn to_float(self) -> Avx512 {
        Avx512(_mm512_cvtepi32_ps(self.0))
    }
}
