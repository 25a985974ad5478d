//! AVX2 and the 256-bit VNNI instructions: two ymm registers.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "each method is a few intrinsics under the one contract stated at `Simd`"
)]

use core::arch::x86_64::*;

use super::super::avx2::Avx2;
use super::dot::Dot;

/// How two ymm registers do a four-byte dot product.
pub(super) trait Ymm: Copy {
    /// Four activations, ready for `dot_bytes` and `dot_nibbles`.
    type Quad: Copy;
    unsafe fn quad(codes: i32) -> Self::Quad;
    unsafe fn dot_bytes(sums: __m256i, weights: __m256i, activations: Self::Quad) -> __m256i;
    unsafe fn dot_nibbles(sums: __m256i, weights: __m256i, activations: Self::Quad) -> __m256i;
}

/// `vpdpbusd` in its AVX-VNNI encoding.
#[derive(Clone, Copy)]
pub(super) struct Vex;

/// `vpdpbusd` in its AVX-512 encoding, which stands in for [`Vex`] in tests.
#[derive(Clone, Copy)]
pub(super) struct Evex;

/// `vpmaddubsw`, which multiplies unsigned bytes with signed ones and saturates at 16 bits: magnitudes of
/// activations with codes of weights made signed, for bytes; unsigned codes of weights, for nibbles.
///
/// Where an activation is negative, the code is complemented, `-w - 1`; that all of these products
/// are short of the activation's magnitude, the start of a segment makes up for
/// ([`super::DotIsa::complements`]).
#[derive(Clone, Copy)]
pub(super) struct Maddubs;

/// Four activations for all rows.
#[derive(Clone, Copy)]
pub(super) struct Signed {
    codes: __m256i,
    magnitudes: __m256i,
    /// What makes codes of weights signed and complements those that meet a negative activation.
    flips: __m256i,
}

macro_rules! vnni {
    ($name:ident, $dot:ident) => {
        impl Ymm for $name {
            type Quad = __m256i;

            #[inline(always)]
            unsafe fn quad(codes: i32) -> __m256i {
                _mm256_set1_epi32(codes)
            }

            #[inline(always)]
            unsafe fn dot_bytes(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
                $dot(sums, weights, x)
            }

            #[inline(always)]
            unsafe fn dot_nibbles(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
                $dot(sums, weights, x)
            }
        }
    };
}

vnni!(Vex, _mm256_dpbusd_avx_epi32);
vnni!(Evex, _mm256_dpbusd_epi32);

impl Ymm for Maddubs {
    type Quad = Signed;

    #[inline(always)]
    unsafe fn quad(codes: i32) -> Signed {
        let codes = _mm256_set1_epi32(codes);
        let negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), codes);
        Signed {
            codes,
            magnitudes: _mm256_abs_epi8(codes),
            flips: _mm256_xor_si256(negative, _mm256_set1_epi8(-128)),
        }
    }

    #[inline(always)]
    unsafe fn dot_bytes(sums: __m256i, weights: __m256i, x: Signed) -> __m256i {
        // -2 * 128 * 128 at least, 2 * 128 * 127 at most.
        let pairs = _mm256_maddubs_epi16(x.magnitudes, _mm256_xor_si256(weights, x.flips));
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    #[inline(always)]
    unsafe fn dot_nibbles(sums: __m256i, weights: __m256i, x: Signed) -> __m256i {
        // At most 2 * 15 * 128 in size.
        let pairs = _mm256_maddubs_epi16(weights, x.codes);
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// Sums 0..8 and 8..16 in two ymm registers.
#[derive(Clone, Copy)]
pub(super) struct Pair<Y>(__m256i, __m256i, std::marker::PhantomData<Y>);

impl<Y> Pair<Y> {
    #[inline(always)]
    fn new(low: __m256i, high: __m256i) -> Self {
        Self(low, high, std::marker::PhantomData)
    }
}

impl<Y: Ymm> Dot for Pair<Y> {
    type Float = Avx2;
    type Codes = [__m256i; 2];
    type Quad = Y::Quad;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self::new(_mm256_set1_epi32(value), _mm256_set1_epi32(value))
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> [__m256i; 2] {
        [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())]
    }

    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [[__m256i; 2]; 2] {
        let (both, mask) = (Self::load_bytes(from), _mm256_set1_epi8(15));
        let high = |x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), mask);
        let low = |x| _mm256_and_si256(x, mask);
        [[low(both[0]), low(both[1])], [high(both[0]), high(both[1])]]
    }

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> Y::Quad {
        Y::quad(from.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn dot_bytes(self, weights: [__m256i; 2], x: Y::Quad) -> Self {
        Self::new(Y::dot_bytes(self.0, weights[0], x), Y::dot_bytes(self.1, weights[1], x))
    }

    #[inline(always)]
    unsafe fn dot_nibbles(self, weights: [__m256i; 2], x: Y::Quad) -> Self {
        Self::new(Y::dot_nibbles(self.0, weights[0], x), Y::dot_nibbles(self.1, weights[1], x))
    }

    #[inline(always)]
    unsafe fn interleave_bytes(channels: [*const u8; 4]) -> [[__m256i; 2]; 4] {
        let [a, b, c, d] = channels.map(|from| Self::load_bytes(from));
        let mut codes = [[_mm256_setzero_si256(); 2]; 4];
        for h in 0..2 {
            let (ab, cd) = (_mm256_unpacklo_epi8(a[h], b[h]), _mm256_unpacklo_epi8(c[h], d[h]));
            codes[0][h] = _mm256_unpacklo_epi16(ab, cd);
            codes[1][h] = _mm256_unpackhi_epi16(ab, cd);
            let (ab, cd) = (_mm256_unpackhi_epi8(a[h], b[h]), _mm256_unpackhi_epi8(c[h], d[h]));
            codes[2][h] = _mm256_unpacklo_epi16(ab, cd);
            codes[3][h] = _mm256_unpackhi_epi16(ab, cd);
        }
        codes
    }

    #[inline(always)]
    unsafe fn interleave_nibbles(channels: [*const u8; 4]) -> [[__m256i; 2]; 8] {
        let mask = _mm256_set1_epi8(15);
        let mut codes = [[_mm256_setzero_si256(); 2]; 8];
        for (i, both) in Self::interleave_bytes(channels).into_iter().enumerate() {
            codes[i] = both.map(|x| _mm256_and_si256(x, mask));
            codes[4 + i] = both.map(|x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), mask));
        }
        codes
    }

    #[inline(always)]
    unsafe fn store_bytes(codes: [__m256i; 2], to: *mut u8) {
        _mm256_storeu_si256(to.cast(), codes[0]);
        _mm256_storeu_si256(to.add(32).cast(), codes[1]);
    }

    #[inline(always)]
    unsafe fn store_nibbles(low: [__m256i; 2], high: [__m256i; 2], to: *mut u8) {
        let both = |h: usize| _mm256_or_si256(low[h], _mm256_slli_epi16::<4>(high[h]));
        Self::store_bytes([both(0), both(1)], to);
    }

    #[inline(always)]
    unsafe fn to_float(self) -> Avx2 {
        Avx2(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1))
    }
}
