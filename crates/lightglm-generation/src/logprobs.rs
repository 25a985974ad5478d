//! Log-probabilities under the model's own distribution.

use lightglm_core::max_of;

use crate::exp_sum::exp_sum;
use crate::truncation::kth_largest;

/// A token and the natural logarithm of its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token's id.
    pub token: u32,
    /// `ln p(token)`.
    pub logprob: f32,
}

/// `ln sum_i exp(logits[i])`.
pub(super) fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = max_of(logits);
    f64::from(max) + exp_sum(logits, max).ln()
}

/// `log_softmax(logits)[token]`; minus infinity for a token outside of the vocabulary.
pub fn log_softmax_at(logits: &[f32], token: u32) -> f32 {
    logprob_of(logits, token, log_sum_exp(logits))
}

/// [`log_softmax_at`] and [`top_logprobs`] of one row, whose sum is taken once.
pub fn token_logprobs(logits: &[f32], token: u32, n: usize) -> (f32, Vec<TokenLogprob>) {
    let sum = log_sum_exp(logits);
    (logprob_of(logits, token, sum), top_logprobs_with(logits, n, sum))
}

fn logprob_of(logits: &[f32], token: u32, log_sum_exp: f64) -> f32 {
    let logit = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    (f64::from(logit) - log_sum_exp) as f32
}

/// The `n` most likely tokens (all, where there are fewer), best first, the lower id first among
/// equals.
pub fn top_logprobs(logits: &[f32], n: usize) -> Vec<TokenLogprob> {
    top_logprobs_with(logits, n, log_sum_exp(logits))
}

/// [`top_logprobs`] where `log_sum_exp` is known already.
pub(super) fn top_logprobs_with(logits: &[f32], n: usize, log_sum_exp: f64) -> Vec<TokenLogprob> {
    let n = n.min(logits.len());
    if n == 0 {
        return Vec::new();
    }
    let threshold = kth_largest(logits, n);
    let ids = (0u32..).zip(logits);
    let above = ids.clone().filter(|&(_, &logit)| logit > threshold);
    let equal = ids.filter(|&(_, &logit)| logit == threshold);
    let mut best: Vec<(u32, f32)> =
        above.chain(equal).take(n).map(|(token, &logit)| (token, logit)).collect();
    best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let logprob = |logit: f32| (f64::from(logit) - log_sum_exp) as f32;
    best.into_iter().map(|(token, logit)| TokenLogprob { token, logprob: logprob(logit) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_tokens_in_order_with_the_right_numbers() {
        let logits: Vec<f32> = [0.1f32, 0.2, 0.4, 0.2, 0.1].iter().map(|p| p.ln() + 3.0).collect();
        let top = top_logprobs(&logits, 4);
        assert_eq!(top.iter().map(|t| t.token).collect::<Vec<_>>(), [2, 1, 3, 0]);
        for (entry, p) in top.iter().zip([0.4f32, 0.2, 0.2, 0.1]) {
            assert!((entry.logprob - p.ln()).abs() < 1e-6);
            assert_eq!(entry.logprob, log_softmax_at(&logits, entry.token));
            assert_eq!(token_logprobs(&logits, entry.token, 4), (entry.logprob, top.clone()));
        }
        assert_eq!(top_logprobs(&logits, 9).len(), 5);
        assert_eq!(top_logprobs(&logits, 0), []);
        assert_eq!(log_softmax_at(&logits, 9), f32::NEG_INFINITY);
    }
}
