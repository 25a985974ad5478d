//! Sums of `exp` over whole vocabularies.

use lightglm_core::exp_nonpositive;

/// Replaces `values[i]` by `exp(values[i] - max)` and returns the sum of each run of `BLOCK`.
pub(super) fn exp_in_place(values: &mut [f32], max: f32) -> Vec<f64> {
    values
        .chunks_mut(BLOCK)
        .map(|block| {
            for value in block.iter_mut() {
                *value = exp_nonpositive(*value - max);
            }
            sum(block)
        })
        .collect()
}

/// Values per sum of [`exp_in_place`].
pub(super) const BLOCK: usize = 256;

/// `sum_i exp(values[i] - max)`.
pub(super) fn exp_sum(values: &[f32], max: f32) -> f64 {
    let mut scratch = [0.0; BLOCK];
    let block_sum = |block: &[f32]| {
        let scratch = &mut scratch[..block.len()];
        for (out, &value) in scratch.iter_mut().zip(block) {
            *out = exp_nonpositive(value - max);
        }
        sum(scratch)
    };
    values.chunks(BLOCK).map(block_sum).sum()
}

fn sum(block: &[f32]) -> f64 {
    let mut lanes = [0.0f32; 16];
    for chunk in block.chunks(16) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_cover_every_length() {
        for len in [0, 1, 15, 16, 17, 255, 256, 257, 1000] {
            let mut values: Vec<f32> = (0..len).map(|i| -((i * 37 % 101) as f32) * 0.1).collect();
            let expected: f64 = values.iter().map(|&v| f64::from(v).exp()).sum();
            assert!((exp_sum(&values, 0.0) - expected).abs() <= 1e-6 * expected);
            let blocks = exp_in_place(&mut values, 0.0);
            assert!((blocks.iter().sum::<f64>() - expected).abs() <= 1e-6 * expected);
        }
    }
}
