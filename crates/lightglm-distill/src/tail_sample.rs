//! `TailSample`: what stands for the tokens that are not among a row's likeliest.

use crate::error::DistillError;

/// Tokens drawn from a row's tail, each as likely as the teacher has it; all weigh the same, the tail's mass over
/// their number.
///
/// With them a forward divergence is that of the whole distribution on average over draws:
///
/// ```text
/// sum over the tail of p(v) ln(p(v) / q(v))  =  E[ mass / m  sum over drawn v of ln p(v) - ln q(v) ]
/// ```
///
/// The other divergences are not: they take the tail as one outcome and do not look at its sample.
///
/// Source: Anshumann et al. 2025, "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", section 4.
#[derive(Clone, Debug, PartialEq)]
pub struct TailSample {
    ids: Vec<u32>,
    mean_log_prob: f32,
}

impl TailSample {
    /// Of tokens, which do not descend (one drawn twice stands there twice), and the mean logarithm of what the
    /// teacher gives them.
    ///
    /// # Errors
    /// [`DistillError::TopRow`] where there is none, they descend, or the mean is no logarithm of a probability.
    pub fn new(ids: Vec<u32>, mean_log_prob: f32) -> Result<Self, DistillError> {
        let wrong = |reason: &str| DistillError::TopRow { row: 0, reason: reason.to_owned() };
        if ids.is_empty() {
            return Err(wrong("its sample has no tokens"));
        }
        if !ids.is_sorted() {
            return Err(wrong("the tokens of its sample descend"));
        }
        if !mean_log_prob.is_finite() || mean_log_prob > 1e-3 {
            return Err(wrong("the tokens of its sample have no probability, or one above 1"));
        }
        Ok(Self { ids, mean_log_prob })
    }

    /// The tokens, which do not descend.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The mean of the logarithms of their probabilities.
    pub fn mean_log_prob(&self) -> f32 {
        self.mean_log_prob
    }
}
