//! Scores of one row of logits. Shapes: `V` vocab_size.
//!
//! Logits are f32, everything after them is f64: a sum of 151,552 f32 exponentials would lose the
//! digits that a comparison of two nearly equal models lives on.

/// `ln(sum(exp(logits)))` of `logits: [V]`.
///
/// NaN where a logit is NaN or the greatest one is not finite, so that a broken row cannot pass for
/// a score.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return f64::NAN;
    }
    let max = f64::from(max);
    max + logits.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln()
}

/// `-ln p(target)` in nats, from `logits: [V]` and their [`log_sum_exp`].
pub fn nll(logits: &[f32], log_sum_exp: f64, target: usize) -> f64 {
    log_sum_exp - f64::from(logits[target])
}

/// Index of the greatest of `logits: [V]`, the first of equals.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_a_known_row() {
        let logits = [0.0_f32, 3.0_f32.ln(), f32::NEG_INFINITY];
        let lse = log_sum_exp(&logits);
        assert!((lse - 4.0_f64.ln()).abs() < 1e-7);
        assert!((nll(&logits, lse, 0) - 4.0_f64.ln()).abs() < 1e-7);
        assert_eq!(nll(&logits, lse, 2), f64::INFINITY);
        assert_eq!(argmax(&logits), 1);
        assert_eq!(argmax(&[1.0, 2.0, 2.0]), 1);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let lse = log_sum_exp(&[3e38, 3e38]);
        assert!((lse - f64::from(3e38_f32)).abs() <= 1e25 && lse.is_finite());
    }

    #[test]
    fn broken_rows_are_nan() {
        assert!(log_sum_exp(&[f32::NAN, 1.0]).is_nan());
        assert!(log_sum_exp(&[1.0, f32::NAN]).is_nan());
        assert!(log_sum_exp(&[f32::INFINITY, 1.0]).is_nan());
        assert!(log_sum_exp(&[f32::NEG_INFINITY; 2]).is_nan());
    }
}
