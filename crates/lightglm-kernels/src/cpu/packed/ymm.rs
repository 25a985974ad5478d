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

/// `vpmaddwd` on widened codes; `vpmaddubsw` would saturate for bytes, but not for nibbles.
#[derive(Clone, Copy)]
pub(super) struct Widened;

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

impl Ymm for Widened {
    type Quad = __m256i;

    #[inline(always)]
    unsafe fn quad(codes: i32) -> __m256i {
        _mm256_set1_epi32(codes)
    }

    #[inline(always)]
    unsafe fn dot_bytes(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        let even = _mm256_and_si256(weights, _mm256_set1_epi16(0xff));
        let odd = _mm256_srli_epi16::<8>(weights);
        let even_x = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
        let odd_x = _mm256_srai_epi16::<8>(x);
        let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(even, even_x));
        _mm256_add_epi32(sums, _mm256_madd_epi16(odd, odd_x))
    }

    #[inline(always)]
    unsafe fn dot_nibbles(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // At most 2 * 15 * 128 in size.
        let pairs = _mm256_maddubs_epi16(weights, x);
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
    unsafe fn to_float(self) -> Avx2 {
        Avx2(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1))
    }
}
