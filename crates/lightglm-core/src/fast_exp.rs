//! `exp` and the maximum over whole rows of numbers.
//!
//! A sampler evaluates `exp` a hundred thousand times a token; this one is written so that the
//! compiler vectorizes it on every target, and uses no fused multiply-add, so that every machine
//! gets the same bits and a seed the same text.

/// Below this, `exp` is less than the smallest normal number and counts as zero.
const SMALLEST: f32 = -87.0;

/// `exp(x)` for `x <= 0`, within 2 units in the last place; exactly 0 below -87.
///
/// Source: Cephes, `expf.c` (range reduction by ln 2 in two parts, polynomial of degree 5).
#[inline]
pub fn exp_nonpositive(x: f32) -> f32 {
    /// Adding and subtracting it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x < SMALLEST { SMALLEST } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let mantissa = p * r * r + r + 1.0;
    let exponent = (shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    let y = mantissa * f32::from_bits(exponent);
    if x < SMALLEST { 0.0 } else { y }
}

/// The largest of `values`, minus infinity for none; NaNs are passed over.
#[inline]
pub fn max_of(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = values.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_exact_one_everywhere() {
        for step in 0..=870_000 {
            let x = -(step as f32) * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_nonpositive(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}): relative error {error}");
        }
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(-88.0), 0.0);
        assert_eq!(exp_nonpositive(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn the_maximum_of_every_length() {
        for len in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..len).map(|i| -((i * 37 % 101) as f32) * 0.1).collect();
            assert_eq!(max_of(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
        assert_eq!(max_of(&[f32::NAN, -1.0]), -1.0);
    }
}
