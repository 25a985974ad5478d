//! `KL(p || q)`.
//!
//! Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.

use super::{Outcome, Term, Terms, weighted_log_ratio};

/// `f = p ln(p / q)`, `q f' = -p`.
pub(crate) struct ForwardKl;

impl Terms for ForwardKl {
    const HAS_CHAIN_RULE: bool = true;

    #[inline]
    fn term(&self, Outcome { p, log_p, log_q, .. }: Outcome) -> Term {
        Term { value: weighted_log_ratio(p, log_p, log_q), flow: -p }
    }
}
