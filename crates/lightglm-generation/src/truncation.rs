//! Processors that reshape the whole distribution: temperature, min-p, top-k, top-p.
//!
//! Each keeps at least the most likely token, and none sorts the vocabulary.

use lightglm_core::{exp_nonpositive, max_of};

use crate::exp_sum::{BLOCK, exp_sum};
use crate::logits_processor::{LogitsProcessor, ProcessorError, TokenHistory};

/// Divides the logits by a temperature above zero.
#[derive(Clone, Copy, Debug)]
pub struct Temperature(pub f32);

impl LogitsProcessor for Temperature {
    fn process(
        &mut self,
        _history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        for logit in logits {
            *logit /= self.0;
        }
        Ok(())
    }
}

/// Keeps tokens whose probability is at least `min_p` times the largest one.
///
/// Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling" (2024), section 3.
#[derive(Clone, Copy, Debug)]
pub struct MinP(pub f32);

impl LogitsProcessor for MinP {
    fn process(
        &mut self,
        _history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        // p >= min_p * p_max  <=>  l >= l_max + ln(min_p)
        let threshold = max_of(logits) + self.0.ln();
        keep_from(logits, threshold);
        Ok(())
    }
}

/// Keeps the `k` most likely tokens, and those exactly as likely as the last of them.
///
/// Source: Fan et al., "Hierarchical Neural Story Generation" (2018), section 5.4; ties as in Hugging
/// Face transformers, `TopKLogitsWarper`.
#[derive(Clone, Copy, Debug)]
pub struct TopK(pub usize);

impl LogitsProcessor for TopK {
    fn process(
        &mut self,
        _history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        if self.0 > 0 && self.0 < logits.len() {
            keep_from(logits, kth_largest(logits, self.0));
        }
        Ok(())
    }
}

/// Keeps the most likely tokens, as few as have `p` of the probability; the lower id first among
/// equals.
///
/// Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.1.
#[derive(Clone, Copy, Debug)]
pub struct TopP(pub f32);

/// Histogram of [`TopP`]: bins of 1/64 down to 32 below the maximum; the last takes all the rest.
const BINS: usize = 2048;
const BINS_PER_UNIT: f32 = 64.0;

/// How many bins below the maximum a logit lies.
fn depth(logit: f32, max: f32) -> f32 {
    (max - logit) * BINS_PER_UNIT
}

/// Probability mass, times the sum of all, in each bin.
fn histogram(logits: &[f32], max: f32) -> Vec<f64> {
    let mut mass = vec![0.0f64; BINS];
    let (mut weights, mut bins) = ([0.0f32; BLOCK], [0i32; BLOCK]);
    for block in logits.chunks(BLOCK) {
        // Apart from the scattered additions, so that this loop vectorizes.
        for ((weight, bin), &logit) in weights.iter_mut().zip(&mut bins).zip(block) {
            *weight = exp_nonpositive(logit - max);
            *bin = depth(logit, max).min((BINS - 1) as f32) as i32;
        }
        for (&weight, &bin) in weights.iter().zip(&bins).take(block.len()) {
            mass[bin as usize] += f64::from(weight);
        }
    }
    mass
}

/// Up to this many tokens are put in order at once, without a histogram (after a top-k, say).
const FEW: usize = 1024;

/// The depths `from..to` between which the probability sum passes `p`, the sum it has to pass, and
/// the sum before `from`.
fn bracket(p: f32, logits: &[f32], max: f32) -> (f32, f32, f64, f64) {
    let possible = logits.iter().filter(|&&logit| logit > f32::NEG_INFINITY).count();
    if possible <= FEW {
        return (0.0, f32::INFINITY, f64::from(p) * exp_sum(logits, max), 0.0);
    }
    let mass = histogram(logits, max);
    let target = f64::from(p) * mass.iter().sum::<f64>();
    let mut sum = 0.0;
    let passes = |&mass: &f64| {
        let passes = sum + mass >= target;
        sum += if passes { 0.0 } else { mass };
        passes
    };
    let last = mass.iter().position(passes).unwrap_or(BINS - 1);
    let to = if last == BINS - 1 { f32::INFINITY } else { (last + 1) as f32 };
    (last as f32, to, target, sum)
}

impl LogitsProcessor for TopP {
    fn process(
        &mut self,
        _history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        let max = max_of(logits);
        if self.0 >= 1.0 || !max.is_finite() {
            return Ok(());
        }
        let (from, to, target, mut sum) = bracket(self.0, logits, max);
        // Tokens above the bracket are kept whole; only those inside have to be put in order.
        let in_last = (0..).zip(logits.iter()).filter(|&(_, &logit)| {
            let depth = depth(logit, max);
            (depth >= from) & (depth < to)
        });
        let mut order: Vec<(usize, f32)> = in_last.map(|(id, &logit)| (id, logit)).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let kept = order.iter().position(|&(_, logit)| {
            sum += f64::from(exp_nonpositive(logit - max));
            sum >= target
        });
        let dropped = kept.map_or(order.len(), |index| index + 1);
        for logit in logits.iter_mut() {
            *logit = if depth(*logit, max) >= to { f32::NEG_INFINITY } else { *logit };
        }
        for &(id, _) in &order[dropped..] {
            logits[id] = f32::NEG_INFINITY;
        }
        Ok(())
    }
}

fn keep_from(logits: &mut [f32], threshold: f32) {
    for logit in logits {
        *logit = if *logit < threshold { f32::NEG_INFINITY } else { *logit };
    }
}

/// The `k`-th largest of `values`, `1 <= k <= values.len()`.
///
/// A buffer of candidates is thinned out whenever it is full; after the first few blocks next to
/// nothing passes its threshold, so this costs about one (vectorized) comparison a value.
pub(super) fn kth_largest(values: &[f32], k: usize) -> f32 {
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    let capacity = (2 * k).max(1024);
    let mut candidates = Vec::with_capacity(capacity);
    let mut threshold = f32::NEG_INFINITY;
    for block in values.chunks(32) {
        // Equals of the threshold cannot change it once there are `k` candidates.
        if candidates.len() >= k && max_of(block) <= threshold {
            continue;
        }
        for &value in block {
            if value > threshold || candidates.len() < k {
                candidates.push(value);
                if candidates.len() == capacity {
                    threshold = *candidates.select_nth_unstable_by(k - 1, descending).1;
                    candidates.truncate(k);
                }
            }
        }
    }
    *candidates.select_nth_unstable_by(k - 1, descending).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: TokenHistory<'static> = TokenHistory { prompt: &[], generated: &[] };

    fn kept(mut processor: impl LogitsProcessor, logits: &[f32]) -> Vec<usize> {
        let mut logits = logits.to_vec();
        processor.process(NONE, &mut logits).unwrap();
        (0..logits.len()).filter(|&id| logits[id] > f32::NEG_INFINITY).collect()
    }

    /// The definitions, by sorting everything.
    fn top_p_by_sorting(logits: &[f32], p: f32) -> Vec<usize> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |id: usize| f64::from(logits[id] - max).exp();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let total: f64 = order.iter().map(|&id| weight(id)).sum();
        let mut sum = 0.0;
        order.retain(|&id| {
            let keep = sum < f64::from(p) * total;
            sum += weight(id);
            keep
        });
        order.sort_unstable();
        order
    }

    #[test]
    fn small_cases_by_hand() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        assert_eq!(kept(TopP(0.6), &logits), [0, 1]);
        assert_eq!(kept(TopP(0.01), &logits), [0]);
        assert_eq!(kept(TopP(1.0), &logits), [0, 1, 2, 3]);
        assert_eq!(kept(MinP(0.25), &logits), [0, 1, 2]);
        assert_eq!(kept(MinP(0.0), &logits), [0, 1, 2, 3]);
        assert_eq!(kept(MinP(1.0), &logits), [0]);
        assert_eq!(kept(TopK(3), &logits), [0, 1, 2]);
        assert_eq!(kept(TopK(0), &logits), [0, 1, 2, 3]);
        assert_eq!(kept(TopK(9), &logits), [0, 1, 2, 3]);
        assert_eq!(kept(TopK(1), &[1.0, 2.0, 2.0]), [1, 2]);
        assert_eq!(kept(TopP(0.5), &[1.0; 5]), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn top_k_keeps_what_sorting_keeps(
            logits in prop::collection::vec(-20.0f32..20.0, 1..3000),
            k in 1usize..3000,
        ) {
            let k = k.min(logits.len());
            let mut sorted = logits.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(kth_largest(&logits, k), sorted[k - 1]);
        }

        #[test]
        fn top_p_keeps_what_sorting_keeps(
            logits in prop::collection::vec(-60.0f32..20.0, 1..400),
            p in 0.01f32..0.99,
        ) {
            // Where the sum meets `p` to the last digits, either neighbour is right.
            let (least, most) = (top_p_by_sorting(&logits, p - 1e-5), top_p_by_sorting(&logits, p + 1e-5));
            let kept = kept(TopP(p), &logits);
            prop_assert!(least.iter().all(|id| kept.contains(id)));
            prop_assert!(kept.iter().all(|id| most.contains(id)));
        }
    }
}
