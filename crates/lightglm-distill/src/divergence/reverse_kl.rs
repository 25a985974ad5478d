//! `KL(q || p)`.
//!
//! Source: Gu et al. 2024, "MiniLLM: Knowledge Distillation of Large Language Models", section 2.1.

use super::{Outcome, Term, Terms, weighted_log_ratio};

/// `f = q ln(q / p)`, `q f' = q ln(q / p)` and a constant.
pub(crate) struct ReverseKl;

impl Terms for ReverseKl {
    #[inline]
    fn term(&self, Outcome { q, log_p, log_q, .. }: Outcome) -> Term {
        let value = weighted_log_ratio(q, log_q, log_p);
        Term { value, flow: value }
    }
}
