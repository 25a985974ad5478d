//! The skewed divergences: one of the two is mixed into the other.
//!
//! Source: Ko et al. 2024, "DistiLLM: Towards Streamlined Distillation for Large Language Models", section 3.1.

use super::{Outcome, Term, Terms, weighted_log_ratio};

/// `f = p ln(p / m)`, `q f' = -(1 - alpha) p q / m`, `m = alpha p + (1 - alpha) q`.
pub(crate) struct SkewKl {
    alpha: f32,
    rest: f32,
}

/// `f = q ln(q / m)`, `q f' = q ln(q / m) - alpha q^2 / m` and a constant, `m = (1 - alpha) p + alpha q`.
pub(crate) struct SkewReverseKl {
    alpha: f32,
    rest: f32,
}

impl SkewKl {
    pub(crate) fn new(alpha: f64) -> Self {
        Self { alpha: alpha as f32, rest: (1.0 - alpha) as f32 }
    }
}

impl SkewReverseKl {
    pub(crate) fn new(alpha: f64) -> Self {
        Self { alpha: alpha as f32, rest: (1.0 - alpha) as f32 }
    }
}

impl Terms for SkewKl {
    #[inline]
    fn term(&self, Outcome { p, q, log_p, .. }: Outcome) -> Term {
        let m = self.alpha * p + self.rest * q;
        let share = if m > 0.0 { self.rest * q / m } else { 0.0 };
        Term { value: weighted_log_ratio(p, log_p, m.ln()), flow: -p * share }
    }
}

impl Terms for SkewReverseKl {
    #[inline]
    fn term(&self, Outcome { p, q, log_q, .. }: Outcome) -> Term {
        let m = self.rest * p + self.alpha * q;
        let share = if m > 0.0 { self.alpha * q / m } else { 0.0 };
        let value = weighted_log_ratio(q, log_q, m.ln());
        Term { value, flow: value - q * share }
    }
}
