//! AVX2 (two forms of it) and the 256-bit VNNI instructions: two ymm registers.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "each method is a few intrinsics under the one contract stated at `Simd`"
)]

use core::arch::x86_64::*;

use super::super::avx2::Avx2;
use super::dot::Dot;

/// How a ymm register does four-byte dot products; see [`Dot`].
pub(super) trait Ymm: Copy {
    /// Four activations for all rows.
    type Quad: Copy;
    const QUAD: usize = 4;
    const LONGEST_RUN: usize = usize::MAX;
    unsafe fn quad(from: *const i8) -> Self::Quad;
    #[inline(always)]
    unsafe fn begin(sums: __m256i) -> __m256i {
        sums
    }
    unsafe fn dot(run: __m256i, weights: __m256i, activations: Self::Quad) -> __m256i;
    #[inline(always)]
    unsafe fn end(_sums: __m256i, run: __m256i) -> __m256i {
        run
    }
}

/// `vpdpbusd` in its AVX-VNNI encoding.
#[derive(Clone, Copy)]
pub(super) struct Vex;

/// `vpdpbusd` in its AVX-512 encoding, which stands in for [`Vex`] in tests.
#[derive(Clone, Copy)]
pub(super) struct Evex;

/// `vpmaddwd`: codes of weights widened to 16 bits, which one instruction does for every second byte,
/// with activations of 16 bits. `vpmaddubsw` would saturate on bytes, and what it takes to prevent that
/// costs as much.
#[derive(Clone, Copy)]
pub(super) struct Words;

/// `vpmaddubsw` for weights of 4 bits. It multiplies twice as many codes as `vpmaddwd` and adds up pairs
/// in 16 bits, in which a run of eight quads fits: `8 * 2 * 15 * 128 = 30720`.
#[derive(Clone, Copy)]
pub(super) struct Nibbles;

macro_rules! vnni {
    ($name:ident, $dot:ident) => {
        impl Ymm for $name {
            type Quad = __m256i;

            #[inline(always)]
            unsafe fn quad(from: *const i8) -> __m256i {
                _mm256_set1_epi32(from.cast::<i32>().read_unaligned())
            }

            #[inline(always)]
            unsafe fn dot(run: __m256i, weights: __m256i, x: __m256i) -> __m256i {
                $dot(run, weights, x)
            }
        }
    };
}

vnni!(Vex, _mm256_dpbusd_avx_epi32);
vnni!(Evex, _mm256_dpbusd_epi32);

impl Ymm for Words {
    /// The first and third, the second and fourth.
    type Quad = [__m256i; 2];
    const QUAD: usize = 8;

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> [__m256i; 2] {
        let pair = |at: usize| _mm256_set1_epi32(from.cast::<i32>().add(at).read_unaligned());
        [pair(0), pair(1)]
    }

    #[inline(always)]
    unsafe fn dot(run: __m256i, weights: __m256i, x: [__m256i; 2]) -> __m256i {
        let even = _mm256_and_si256(weights, _mm256_set1_epi16(255));
        let odd = _mm256_srli_epi16::<8>(weights);
        let run = _mm256_add_epi32(run, _mm256_madd_epi16(even, x[0]));
        _mm256_add_epi32(run, _mm256_madd_epi16(odd, x[1]))
    }
}

impl Ymm for Nibbles {
    type Quad = __m256i;
    const LONGEST_RUN: usize = 8;

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> __m256i {
        _mm256_set1_epi32(from.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn begin(_sums: __m256i) -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline(always)]
    unsafe fn dot(run: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        _mm256_add_epi16(run, _mm256_maddubs_epi16(weights, x))
    }

    #[inline(always)]
    unsafe fn end(sums: __m256i, run: __m256i) -> __m256i {
        _mm256_add_epi32(sums, _mm256_madd_epi16(run, _mm256_set1_epi16(1)))
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
    const QUAD: usize = Y::QUAD;
    const LONGEST_RUN: usize = Y::LONGEST_RUN;

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
        Y::quad(from)
    }

    #[inline(always)]
    unsafe fn begin(self) -> Self {
        Self::new(Y::begin(self.0), Y::begin(self.1))
    }

    #[inline(always)]
    unsafe fn dot(self, weights: [__m256i; 2], x: Y::Quad) -> Self {
        Self::new(Y::dot(self.0, weights[0], x), Y::dot(self.1, weights[1], x))
    }

    #[inline(always)]
    unsafe fn end(self, run: Self) -> Self {
        Self::new(Y::end(self.0, run.0), Y::end(self.1, run.1))
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

    #[inline(always)]
    unsafe fn store_codes(values: Avx2, to: *mut i8) {
        // Rounds ties to even. Packing leaves the order 0..4, 8..12, 4..8, 12..16.
        let low = _mm256_cvtps_epi32(values.0);
        let words = _mm256_packs_epi32(low, _mm256_cvtps_epi32(values.1));
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        _mm_storeu_si128(to.cast(), _mm_packs_epi16(low, high));
    }

    #[inline(always)]
    unsafe fn store_words(values: Avx2, to: *mut i16) {
        let low = _mm256_cvtps_epi32(values.0);
        let words = _mm256_packs_epi32(low, _mm256_cvtps_epi32(values.1));
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let words = _mm256_shufflelo_epi16::<0b11_01_10_00>(words);
        let words = _mm256_shufflehi_epi16::<0b11_01_10_00>(words);
        _mm256_storeu_si256(to.cast(), words);
    }
}
