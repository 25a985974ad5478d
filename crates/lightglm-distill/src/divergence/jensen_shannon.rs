//! The generalized Jensen-Shannon divergence.
//!
//! Source: Agarwal et al. 2024, "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes"
//! (GKD), equation 1; `beta` weighs as in TRL's `GKDTrainer`.

use super::{Outcome, Term, Terms, weighted_log_ratio};

/// `f = beta p ln(p / m) + (1 - beta) q ln(q / m)`, `q f' = (1 - beta) q ln(q / m)`, `m = beta p + (1 - beta) q`.
pub(crate) struct JensenShannon {
    beta: f32,
    rest: f32,
}

impl JensenShannon {
    pub(crate) fn new(beta: f64) -> Self {
        Self { beta: beta as f32, rest: (1.0 - beta) as f32 }
    }
}

impl Terms for JensenShannon {
    #[inline]
    fn term(&self, Outcome { p, q, log_p, log_q }: Outcome) -> Term {
        let log_m = (self.beta * p + self.rest * q).ln();
        let flow = self.rest * weighted_log_ratio(q, log_q, log_m);
        Term { value: self.beta * weighted_log_ratio(p, log_p, log_m) + flow, flow }
    }
}
