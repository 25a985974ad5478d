//! `TailSample`: what stands for the tokens that are not among a row's likeliest.

use crate::error::DistillError;

/// Tokens drawn from a row's tail: its share of the tail for each, and how many tokens it stands for.
///
/// A forward divergence is that of the likeliest tokens with the rest as one outcome, and `mass` times the one within
/// the rest, with `p` and `q` as shares of the teacher's and the student's rest:
///
/// ```text
/// KL(p || q) = sum over v of p(v) ln(p(v) / q(v)) + q(v) - p(v)
///           ~= sum over drawn v of weight(v) (p(v) ln(p(v) / q(v)) + q(v) - p(v))
/// ```
///
/// It is right on average over draws if `weight(v)` is 1 over how often `v` is drawn on average. No summand is
/// negative, and all are nothing where the student says what the teacher does: a student that learns from the same draws
/// again and again is not drawn towards them. The other divergences take the rest as one outcome and do not look within.
///
/// Source: Anshumann et al. 2025, "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs" (drawn tails);
/// Schulman 2020, "Approximating KL Divergence" (the summand).
#[derive(Clone, Debug, PartialEq)]
pub struct TailSample {
    ids: Vec<u32>,
    log_shares: Vec<f32>,
    weights: Vec<f32>,
}

impl TailSample {
    /// Of tokens, which do not descend (one drawn twice stands there twice), the logarithms of the teacher's shares of
    /// the tail, and weights.
    ///
    /// # Errors
    /// [`DistillError::TopRow`] where there is none, they descend, there are other shares or weights than tokens, a
    /// share is above 1, or a weight is not above 0.
    pub fn new(
        ids: Vec<u32>,
        log_shares: Vec<f32>,
        weights: Vec<f32>,
    ) -> Result<Self, DistillError> {
        let wrong = |reason: &str| {
            Err(DistillError::TopRow { row: 0, reason: format!("its sample {reason}") })
        };
        if ids.is_empty() {
            return wrong("has no tokens");
        }
        if ids.len() != log_shares.len() || ids.len() != weights.len() {
            return wrong("has other tokens than shares or weights");
        }
        if !ids.is_sorted() {
            return wrong("has tokens that descend");
        }
        // A rounding above 0 is forgiven.
        if log_shares.iter().any(|share| share.is_nan() || *share > 0.1) {
            return wrong("has a share above 1, or none");
        }
        if !weights.iter().all(|weight| *weight > 0.0 && weight.is_finite()) {
            return wrong("has a weight that is not above 0");
        }
        Ok(Self { ids, log_shares, weights })
    }

    /// The tokens, which do not descend.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The logarithms of the teacher's shares of the tail; minus infinity for nothing.
    pub fn log_shares(&self) -> &[f32] {
        &self.log_shares
    }

    /// How many tokens of the tail each stands for.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }
}
