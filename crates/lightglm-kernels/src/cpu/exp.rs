//! The exponential function, the same polynomial on every instruction set.

use super::simd::Simd;

/// `e^x` to about 1 ulp: 0 for `-inf`, `inf` from 88.73 on, NaN for NaN, subnormal results included.
///
/// ```text
/// n = round(x / ln 2),  r = x - n ln 2,  e^x = 2^n (1 + r + r^2 p(r))
/// ```
///
/// Source: Cephes, `expf.c` (the polynomial and the two-part ln 2).
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S) -> S {
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.000_000_1e-1,
    ];
    // Adding 1.5 * 2^23 leaves the integer nearest to the number in the lowest mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        // The bounds come first so that a NaN in `x` comes through.
        let x = S::splat(89.0).min(S::splat(-104.0).max(x));
        let biased = x.fma(S::splat(std::f32::consts::LOG2_E), S::splat(ROUND));
        let n = biased.sub(S::splat(ROUND));
        let r = n.fma(S::splat(-LN2_HIGH), x);
        let r = n.fma(S::splat(-LN2_LOW), r);
        let mut p = S::splat(COEFFICIENTS[0]);
        p = p.fma(r, S::splat(COEFFICIENTS[1]));
        p = p.fma(r, S::splat(COEFFICIENTS[2]));
        p = p.fma(r, S::splat(COEFFICIENTS[3]));
        p = p.fma(r, S::splat(COEFFICIENTS[4]));
        p = p.fma(r, S::splat(COEFFICIENTS[5]));
        let y = p.fma(r.mul(r), r).add(S::splat(1.0));
        let (low, high) = biased.exp2_halves();
        y.mul(low).mul(high)
    }
}
