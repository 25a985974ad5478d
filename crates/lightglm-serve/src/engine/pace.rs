//! `Pace`: how many tokens of long prompts fit into a step without stalling the replies.

use std::time::Duration;

use super::config::PaceConfig;

/// Learns what steps cost and says how much of a long prompt the next one bears.
///
/// What is scheduled never changes what is generated, so that this may look at the clock.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    config: PaceConfig,
    /// Seconds of a step that only decodes, by the number of its rows, doubling from entry to entry.
    decode: [Option<f64>; SIZES],
    /// Seconds that one more prompt token costs.
    per_token: Option<f64>,
}

const SIZES: usize = 12;
const SMOOTHING: f64 = 0.2;

impl Pace {
    pub(crate) fn new(config: PaceConfig) -> Self {
        Self { config, decode: [None; SIZES], per_token: None }
    }

    /// Whether a prompt with so many tokens left is over soon.
    pub(crate) fn is_short(&self, tokens: usize) -> bool {
        tokens <= self.config.short_prompt
    }

    /// Tokens of long prompts that a step with `decode_rows` decoding rows bears.
    pub(crate) fn long_prompt_tokens(&self, decode_rows: usize, budget: usize) -> usize {
        if decode_rows == 0 {
            return budget;
        }
        let least = self.config.min_chunk.max(1);
        let (Some(decode), Some(per_token)) = (self.decode_seconds(decode_rows), self.per_token)
        else {
            return least.min(budget.max(1));
        };
        let tokens = (self.config.stretch - 1.0).max(0.0) * decode / per_token.max(1e-9);
        (tokens as usize).clamp(least, budget.max(least))
    }

    /// Notes what a step took.
    pub(crate) fn note(&mut self, decode_rows: usize, prompt_tokens: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        if prompt_tokens == 0 {
            let entry = &mut self.decode[size(decode_rows)];
            *entry = Some(blend(*entry, seconds));
            return;
        }
        let decode = match decode_rows {
            0 => Some(0.0),
            rows => self.decode_seconds(rows),
        };
        if let Some(decode) = decode {
            // Never free: a step that was faster than its decoding part says nothing of the prompt.
            let each = ((seconds - decode) / prompt_tokens as f64)
                .max(0.1 * seconds / prompt_tokens as f64);
            self.per_token = Some(blend(self.per_token, each));
        }
    }

    /// Seconds of a step with `rows` rows, from the nearest number of rows that was seen.
    fn decode_seconds(&self, rows: usize) -> Option<f64> {
        let at = size(rows);
        let nearest = (0..SIZES).filter(|&i| self.decode[i].is_some());
        nearest.min_by_key(|&i| i.abs_diff(at)).and_then(|i| self.decode[i])
    }
}

fn size(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize).min(SIZES - 1)
}

fn blend(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| old + SMOOTHING * (new - old))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_stretch_steps_as_asked() {
        let mut pace = Pace::new(PaceConfig { short_prompt: 128, stretch: 1.5, min_chunk: 16 });
        assert_eq!(pace.long_prompt_tokens(0, 512), 512);
        assert_eq!(pace.long_prompt_tokens(8, 512), 16, "careful while nothing is known");
        for _ in 0..50 {
            pace.note(8, 0, Duration::from_millis(40));
            pace.note(8, 20, Duration::from_millis(60));
        }
        // A token costs 1 ms, half a step 20 ms.
        let tokens = pace.long_prompt_tokens(8, 512);
        assert!((19..=20).contains(&tokens), "{tokens}");
        pace.note(1, 0, Duration::from_millis(1));
        assert_eq!(pace.long_prompt_tokens(1, 512), 16);
        assert_eq!(pace.long_prompt_tokens(1, 4), 16);
    }
}
