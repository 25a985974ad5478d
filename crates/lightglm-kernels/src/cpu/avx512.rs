//! AVX-512 (F, BW, DQ, VL): one zmm register.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "each method is one to ten intrinsics under the one contract stated at `Simd`"
)]

use core::arch::x86_64::*;

use super::simd::Simd;

/// Sixteen lanes in a zmm register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(super) __m512);

/// The mask of the first `len < 16` lanes.
#[inline(always)]
fn first(len: usize) -> __mmask16 {
    ((1u32 << len) - 1) as __mmask16
}

#[inline(always)]
unsafe fn widen_bf16(bits: __m256i) -> Avx512 {
    Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits))))
}

impl Simd for Avx512 {
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self(_mm512_setzero_ps())
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm512_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm512_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self.0);
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))))
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        widen_bf16(_mm256_loadu_si256(from.cast()))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        let half = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0);
        _mm256_storeu_si256(to.cast(), half);
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        let bits = _mm512_castps_si512(self.0);
        let upper = _mm512_srli_epi32::<16>(bits);
        let odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
        let bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, bias));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
        let quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
        let chosen = _mm512_mask_blend_epi32(nan, rounded, quiet);
        _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(chosen));
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm512_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm512_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm512_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm512_div_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Self(_mm512_fmadd_ps(self.0, b.0, c.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm512_max_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm512_min_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        Self(_mm512_permute_ps::<0b10_11_00_01>(self.0))
    }

    #[inline(always)]
    unsafe fn exp2_halves(self) -> (Self, Self) {
        let n = _mm512_sub_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(0x4B40_0000));
        let low = _mm512_srai_epi32::<1>(n);
        let high = _mm512_sub_epi32(n, low);
        let bias = _mm512_set1_epi32(127);
        let low = _mm512_slli_epi32::<23>(_mm512_add_epi32(low, bias));
        let high = _mm512_slli_epi32::<23>(_mm512_add_epi32(high, bias));
        (Self(_mm512_castsi512_ps(low)), Self(_mm512_castsi512_ps(high)))
    }

    #[inline(always)]
    unsafe fn reduce_add(self) -> f32 {
        let s8 = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
        let s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps::<1>(s8));
        let s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
        _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)))
    }

    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        _mm512_reduce_max_ps(self.0)
    }

    #[inline(always)]
    unsafe fn reduce_add_4(vectors: [Self; 4], to: *mut f32) {
        let [Self(a), Self(b), Self(c), Self(d)] = vectors;
        // Halves of two vectors side by side, then quarters of four, then within the quarters.
        let ab = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
            _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
        );
        let cd = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d),
            _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d),
        );
        let abcd = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd),
        );
        let pairs = _mm512_add_ps(abcd, _mm512_permute_ps::<0b11_10_11_10>(abcd));
        let sums = _mm512_add_ps(pairs, _mm512_permute_ps::<0b01_01_01_01>(pairs));
        let order = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        _mm_storeu_ps(to, _mm512_castps512_ps128(_mm512_permutexvar_ps(order, sums)));
    }

    #[inline(always)]
    unsafe fn transpose_4(vectors: [Self; 4]) -> [Self; 4] {
        let [Self(a), Self(b), Self(c), Self(d)] = vectors;
        let ab_low = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
        let ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        let cd_low = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
        let cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
        [
            Self(_mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low))),
            Self(_mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low))),
            Self(_mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high))),
            Self(_mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high))),
        ]
    }

    #[inline(always)]
    unsafe fn store_4(self, to: *mut f32, stride: usize) {
        _mm_storeu_ps(to, _mm512_castps512_ps128(self.0));
        _mm_storeu_ps(to.add(stride), _mm512_extractf32x4_ps::<1>(self.0));
        _mm_storeu_ps(to.add(2 * stride), _mm512_extractf32x4_ps::<2>(self.0));
        _mm_storeu_ps(to.add(3 * stride), _mm512_extractf32x4_ps::<3>(self.0));
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, len: usize) -> Self {
        Self(_mm512_maskz_loadu_ps(first(len), from))
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, len: usize) {
        _mm512_mask_storeu_ps(to, first(len), self.0);
    }

    #[inline(always)]
    unsafe fn load_f16_part(from: *const u16, len: usize) -> Self {
        Self(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(len), from.cast())))
    }

    #[inline(always)]
    unsafe fn load_bf16_part(from: *const u16, len: usize) -> Self {
        widen_bf16(_mm256_maskz_loadu_epi16(first(len), from.cast()))
    }

    #[inline(always)]
    unsafe fn keep_first(self, len: usize, fill: f32) -> Self {
        Self(_mm512_mask_blend_ps(first(len), _mm512_set1_ps(fill), self.0))
    }
}
