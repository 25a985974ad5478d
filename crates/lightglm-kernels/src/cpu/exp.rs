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
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::{Isa, kernel};

    kernel! {
        /// # Safety
        /// None beyond the instruction set.
        unsafe fn exp_of_16(x: &mut [f32; 16]) = exp_of_16_on;
    }

    #[inline(always)]
    unsafe fn exp_of_16_on<S: Simd>(x: &mut [f32; 16]) {
        // SAFETY: the array has sixteen lanes.
        unsafe { exp(S::load(x.as_ptr())).store(x.as_mut_ptr()) }
    }

    fn on_every_isa(x: f32) -> f32 {
        let results: Vec<f32> = Isa::available()
            .into_iter()
            .map(|isa| {
                let mut lanes = [x; 16];
                // SAFETY: the instruction set is there.
                unsafe { exp_of_16(isa, &mut lanes) };
                lanes[7]
            })
            .collect();
        let same = |y: &f32| y.to_bits() == results[0].to_bits() || y.is_nan();
        assert!(results.iter().all(same), "{x}: {results:?}");
        results[0]
    }

    #[test]
    fn within_two_units_in_the_last_place() {
        for i in -104_000..=88_700 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let unit = (exact * 2f64.powi(-23)).max(f64::from(f32::from_bits(1)));
            let error = (f64::from(on_every_isa(x)) - exact).abs();
            assert!(error <= 2.0 * unit, "{x}: off by {} ulp", error / unit);
        }
    }

    #[test]
    fn limits() {
        assert_eq!(on_every_isa(0.0), 1.0);
        assert_eq!(on_every_isa(-0.0), 1.0);
        assert_eq!(on_every_isa(f32::NEG_INFINITY), 0.0);
        assert_eq!(on_every_isa(-1e30), 0.0);
        assert_eq!(on_every_isa(f32::INFINITY), f32::INFINITY);
        assert_eq!(on_every_isa(89.0), f32::INFINITY);
        assert!(on_every_isa(88.72).is_finite());
        assert!(on_every_isa(f32::NAN).is_nan());
    }
}
