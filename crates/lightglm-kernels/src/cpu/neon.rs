//! NEON: four q registers.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "each method is one to ten intrinsics under the one contract stated at `Simd`"
)]

use core::arch::aarch64::*;
use core::arch::asm;

use super::simd::Simd;

/// Lanes 0..4, 4..8, 8..12 and 12..16 in four q registers.
#[derive(Clone, Copy)]
pub(crate) struct Neon(pub(super) [float32x4_t; 4]);

/// Applies an expression to the four registers.
macro_rules! each {
    (|$i:ident| $body:expr) => {
        Neon([
            {
                const $i: usize = 0;
                $body
            },
            {
                const $i: usize = 1;
                $body
            },
            {
                const $i: usize = 2;
                $body
            },
            {
                const $i: usize = 3;
                $body
            },
        ])
    };
}

/// `fcvtl`, which is part of the base instruction set; its intrinsic wants the f16 type, which is
/// not stable.
#[inline(always)]
unsafe fn widen_f16(bits: uint16x4_t) -> float32x4_t {
    let wide: float32x4_t;
    asm!(
        "fcvtl {wide:v}.4s, {bits:v}.4h",
        wide = lateout(vreg) wide,
        bits = in(vreg) bits,
        options(pure, nomem, nostack, preserves_flags)
    );
    wide
}

/// `fcvtn`: rounds to the nearest half-precision number, ties to even.
#[inline(always)]
unsafe fn round_f16(x: float32x4_t) -> uint16x4_t {
    let bits: uint16x4_t;
    asm!(
        "fcvtn {bits:v}.4h, {x:v}.4s",
        bits = lateout(vreg) bits,
        x = in(vreg) x,
        options(pure, nomem, nostack, preserves_flags)
    );
    bits
}

#[inline(always)]
unsafe fn round_bf16(x: float32x4_t) -> uint16x4_t {
    let bits = vreinterpretq_u32_f32(x);
    let upper = vshrq_n_u32::<16>(bits);
    let odd = vandq_u32(upper, vdupq_n_u32(1));
    let rounded = vshrq_n_u32::<16>(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))));
    let quiet = vorrq_u32(upper, vdupq_n_u32(0x40));
    vmovn_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet))
}

#[inline(always)]
unsafe fn exp2_halves(x: float32x4_t) -> (float32x4_t, float32x4_t) {
    let n = vsubq_s32(vreinterpretq_s32_f32(x), vdupq_n_s32(0x4B40_0000));
    let low = vshrq_n_s32::<1>(n);
    let high = vsubq_s32(n, low);
    let bias = vdupq_n_s32(127);
    let low = vshlq_n_s32::<23>(vaddq_s32(low, bias));
    let high = vshlq_n_s32::<23>(vaddq_s32(high, bias));
    (vreinterpretq_f32_s32(low), vreinterpretq_f32_s32(high))
}

/// The four partial sums after the tree's steps `+ 8` and `+ 4`.
#[inline(always)]
unsafe fn quarter_sums(v: Neon) -> float32x4_t {
    vaddq_f32(vaddq_f32(v.0[0], v.0[2]), vaddq_f32(v.0[1], v.0[3]))
}

/// The tree's step `+ 2` for two vectors: `[a0 + a2, a1 + a3, b0 + b2, b1 + b3]`.
#[inline(always)]
unsafe fn pair_sums(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
    vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(a, b)), vreinterpretq_f32_f64(vzip2q_f64(a, b)))
}

impl Simd for Neon {
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([vdupq_n_f32(0.0); 4])
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([vdupq_n_f32(value); 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        each!(|I| vld1q_f32(from.add(4 * I)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        vst1q_f32(to, self.0[0]);
        vst1q_f32(to.add(4), self.0[1]);
        vst1q_f32(to.add(8), self.0[2]);
        vst1q_f32(to.add(12), self.0[3]);
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        each!(|I| widen_f16(vld1_u16(from.add(4 * I))))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        let bytes = vld1q_s8(from);
        let words = [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)];
        Self([
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(words[0]))),
            vcvtq_f32_s32(vmovl_high_s16(words[0])),
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(words[1]))),
            vcvtq_f32_s32(vmovl_high_s16(words[1])),
        ])
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        each!(|I| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(4 * I)))))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        vst1_u16(to, round_f16(self.0[0]));
        vst1_u16(to.add(4), round_f16(self.0[1]));
        vst1_u16(to.add(8), round_f16(self.0[2]));
        vst1_u16(to.add(12), round_f16(self.0[3]));
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        vst1_u16(to, round_bf16(self.0[0]));
        vst1_u16(to.add(4), round_bf16(self.0[1]));
        vst1_u16(to.add(8), round_bf16(self.0[2]));
        vst1_u16(to.add(12), round_bf16(self.0[3]));
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each!(|I| vaddq_f32(self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        each!(|I| vsubq_f32(self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        each!(|I| vmulq_f32(self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        each!(|I| vdivq_f32(self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        each!(|I| vfmaq_f32(c.0[I], self.0[I], b.0[I]))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // Not `fmax`, which returns NaN where either operand is one.
        each!(|I| vbslq_f32(vcgtq_f32(self.0[I], other.0[I]), self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        each!(|I| vbslq_f32(vcltq_f32(self.0[I], other.0[I]), self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        each!(|I| vrev64q_f32(self.0[I]))
    }

    #[inline(always)]
    unsafe fn exp2_halves(self) -> (Self, Self) {
        let (l0, h0) = exp2_halves(self.0[0]);
        let (l1, h1) = exp2_halves(self.0[1]);
        let (l2, h2) = exp2_halves(self.0[2]);
        let (l3, h3) = exp2_halves(self.0[3]);
        (Self([l0, l1, l2, l3]), Self([h0, h1, h2, h3]))
    }

    #[inline(always)]
    unsafe fn reduce_add(self) -> f32 {
        let s4 = quarter_sums(self);
        let s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
        vget_lane_f32::<0>(vpadd_f32(s2, s2))
    }

    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        let a = vmaxnmq_f32(self.0[0], self.0[1]);
        let b = vmaxnmq_f32(self.0[2], self.0[3]);
        vmaxnmvq_f32(vmaxnmq_f32(a, b))
    }

    #[inline(always)]
    unsafe fn reduce_add_4(vectors: [Self; 4], to: *mut f32) {
        let [a, b, c, d] = vectors;
        let ab = pair_sums(quarter_sums(a), quarter_sums(b));
        let cd = pair_sums(quarter_sums(c), quarter_sums(d));
        vst1q_f32(to, vpaddq_f32(ab, cd));
    }

    #[inline(always)]
    unsafe fn transpose_4(vectors: [Self; 4]) -> [Self; 4] {
        let [a, b, c, d] = vectors;
        let mut columns = [a; 4];
        for g in 0..4 {
            let even = [vtrn1q_f32(a.0[g], b.0[g]), vtrn1q_f32(c.0[g], d.0[g])];
            let odd = [vtrn2q_f32(a.0[g], b.0[g]), vtrn2q_f32(c.0[g], d.0[g])];
            let [e0, e1] = [vreinterpretq_f64_f32(even[0]), vreinterpretq_f64_f32(even[1])];
            let [o0, o1] = [vreinterpretq_f64_f32(odd[0]), vreinterpretq_f64_f32(odd[1])];
            columns[0].0[g] = vreinterpretq_f32_f64(vtrn1q_f64(e0, e1));
            columns[1].0[g] = vreinterpretq_f32_f64(vtrn1q_f64(o0, o1));
            columns[2].0[g] = vreinterpretq_f32_f64(vtrn2q_f64(e0, e1));
            columns[3].0[g] = vreinterpretq_f32_f64(vtrn2q_f64(o0, o1));
        }
        columns
    }

    #[inline(always)]
    unsafe fn store_4(self, to: *mut f32, stride: usize) {
        vst1q_f32(to, self.0[0]);
        vst1q_f32(to.add(stride), self.0[1]);
        vst1q_f32(to.add(2 * stride), self.0[2]);
        vst1q_f32(to.add(3 * stride), self.0[3]);
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        asm!("prfm pldl2keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
}
