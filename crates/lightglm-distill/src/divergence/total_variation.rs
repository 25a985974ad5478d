//! Total variation.
//!
//! Source: Wen et al. 2023, "f-Divergence Minimization for Sequence-Level Knowledge Distillation", section 2.2.

use super::{Outcome, Term, Terms};

/// `f = 1/2 |p - q|`, `q f' = 1/2 q sign(q - p)`.
pub(crate) struct TotalVariation;

impl Terms for TotalVariation {
    #[inline]
    fn term(&self, Outcome { p, q, .. }: Outcome) -> Term {
        let difference = q - p;
        let slope = match difference {
            above if above > 0.0 => 0.5,
            below if below < 0.0 => -0.5,
            _ => 0.0,
        };
        Term { value: 0.5 * difference.abs(), flow: slope * q }
    }
}
