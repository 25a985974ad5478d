//! AVX2 with FMA and F16C: two ymm registers.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "each method is one to ten intrinsics under the one contract stated at `Simd`"
)]

use core::arch::x86_64::*;

use super::simd::Simd;

/// Lanes 0..8 and 8..16 in two ymm registers.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(super) __m256, pub(super) __m256);

#[inline(always)]
unsafe fn widen_bf16(from: *const u16) -> __m256 {
    let bits = _mm_loadu_si128(from.cast());
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
}

/// The bfloat16 bits of each lane, in the lower half of 32 bits.
#[inline(always)]
unsafe fn round_bf16(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    let upper = _mm256_srli_epi32::<16>(bits);
    let odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    let bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, bias));
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
    let quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    _mm256_blendv_epi8(rounded, quiet, nan)
}

/// Transposes the 4x4 blocks in the lower halves, and those in the upper halves.
#[inline(always)]
unsafe fn transpose_4([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
    let ab_low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
    let ab_high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
    let cd_low = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
    let cd_high = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
    [
        _mm256_castpd_ps(_mm256_unpacklo_pd(ab_low, cd_low)),
        _mm256_castpd_ps(_mm256_unpackhi_pd(ab_low, cd_low)),
        _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high)),
        _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high)),
    ]
}

#[inline(always)]
unsafe fn exp2_halves(x: __m256) -> (__m256, __m256) {
    let n = _mm256_sub_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(0x4B40_0000));
    let low = _mm256_srai_epi32::<1>(n);
    let high = _mm256_sub_epi32(n, low);
    let bias = _mm256_set1_epi32(127);
    let low = _mm256_slli_epi32::<23>(_mm256_add_epi32(low, bias));
    let high = _mm256_slli_epi32::<23>(_mm256_add_epi32(high, bias));
    (_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

impl Simd for Avx2 {
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self(_mm256_setzero_ps(), _mm256_setzero_ps())
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm256_set1_ps(value), _mm256_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
        _mm256_storeu_ps(to.add(8), self.1);
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        Self(
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
        )
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        let widened = |at| _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(at).cast()));
        Self(_mm256_cvtepi32_ps(widened(0)), _mm256_cvtepi32_ps(widened(8)))
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        Self(widen_bf16(from), widen_bf16(from.add(8)))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<NEAREST>(self.0));
        _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<NEAREST>(self.1));
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        let packed = _mm256_packus_epi32(round_bf16(self.0), round_bf16(self.1));
        _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Self(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        Self(_mm256_permute_ps::<0b10_11_00_01>(self.0), _mm256_permute_ps::<0b10_11_00_01>(self.1))
    }

    #[inline(always)]
    unsafe fn exp2_halves(self) -> (Self, Self) {
        let (low0, high0) = exp2_halves(self.0);
        let (low1, high1) = exp2_halves(self.1);
        (Self(low0, low1), Self(high0, high1))
    }

    #[inline(always)]
    unsafe fn reduce_add(self) -> f32 {
        let s8 = _mm256_add_ps(self.0, self.1);
        let s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps::<1>(s8));
        let s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
        _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)))
    }

    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        let s8 = _mm256_max_ps(self.0, self.1);
        let s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps::<1>(s8));
        let s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
        _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)))
    }

    #[inline(always)]
    unsafe fn reduce_add_4(vectors: [Self; 4], to: *mut f32) {
        let [a, b, c, d] = vectors;
        let (a, b) = (_mm256_add_ps(a.0, a.1), _mm256_add_ps(b.0, b.1));
        let (c, d) = (_mm256_add_ps(c.0, c.1), _mm256_add_ps(d.0, d.1));
        let ab = _mm256_add_ps(
            _mm256_permute2f128_ps::<0x20>(a, b),
            _mm256_permute2f128_ps::<0x31>(a, b),
        );
        let cd = _mm256_add_ps(
            _mm256_permute2f128_ps::<0x20>(c, d),
            _mm256_permute2f128_ps::<0x31>(c, d),
        );
        // Per half: [x0 + x2, x1 + x3] of `ab`, then of `cd`.
        let pairs = _mm256_add_ps(
            _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
        );
        let sums = _mm256_add_ps(pairs, _mm256_permute_ps::<0b10_11_00_01>(pairs));
        // Now a, a, c, c, b, b, d, d.
        let ac = _mm256_castps256_ps128(sums);
        let bd = _mm256_extractf128_ps::<1>(sums);
        let abcd = _mm_shuffle_ps::<0b10_00_10_00>(ac, bd);
        _mm_storeu_ps(to, _mm_permute_ps::<0b11_01_10_00>(abcd));
    }

    #[inline(always)]
    unsafe fn transpose_4(vectors: [Self; 4]) -> [Self; 4] {
        let [a, b, c, d] = vectors;
        let [l0, l1, l2, l3] = transpose_4([a.0, b.0, c.0, d.0]);
        let [h0, h1, h2, h3] = transpose_4([a.1, b.1, c.1, d.1]);
        [Self(l0, h0), Self(l1, h1), Self(l2, h2), Self(l3, h3)]
    }

    #[inline(always)]
    unsafe fn store_4(self, to: *mut f32, stride: usize) {
        _mm_storeu_ps(to, _mm256_castps256_ps128(self.0));
        _mm_storeu_ps(to.add(stride), _mm256_extractf128_ps::<1>(self.0));
        _mm_storeu_ps(to.add(2 * stride), _mm256_castps256_ps128(self.1));
        _mm_storeu_ps(to.add(3 * stride), _mm256_extractf128_ps::<1>(self.1));
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
}
