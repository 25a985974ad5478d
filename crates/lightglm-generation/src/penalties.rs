//! Processors that move single tokens' logits: penalties, bias, bans.

use std::collections::HashMap;

use crate::logits_processor::{LogitsProcessor, ProcessorError, TokenHistory};

/// Repetition, frequency and presence penalty, in this order.
///
/// ```text
/// l = l / repetition  if l > 0, else  l * repetition      tokens of prompt and output
/// l = l - frequency * count - presence                    tokens of the output, count times in it
/// ```
///
/// Source: Keskar et al., "CTRL" (2019), section 4.1, for repetition; the OpenAI API reference for
/// the other two; which tokens count is as in vLLM, `model_executor/layers/utils.py`,
/// `apply_penalties`.
#[derive(Clone, Debug)]
pub struct Penalties {
    repetition: f32,
    frequency: f32,
    presence: f32,
    /// Times each token of the history stands in the output.
    counts: HashMap<u32, u32>,
    prompt_seen: usize,
    generated_seen: usize,
}

impl Penalties {
    /// Penalties; `repetition` 1 and `frequency`, `presence` 0 are off.
    pub fn new(repetition: f32, frequency: f32, presence: f32) -> Self {
        let counts = HashMap::new();
        Self { repetition, frequency, presence, counts, prompt_seen: 0, generated_seen: 0 }
    }

    fn count(&mut self, history: TokenHistory<'_>) {
        for &token in history.prompt.iter().skip(self.prompt_seen) {
            self.counts.entry(token).or_insert(0);
        }
        for &token in history.generated.iter().skip(self.generated_seen) {
            *self.counts.entry(token).or_insert(0) += 1;
        }
        self.prompt_seen = history.prompt.len();
        self.generated_seen = history.generated.len();
    }
}

impl LogitsProcessor for Penalties {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        self.count(history);
        for (&token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            if *logit > 0.0 {
                *logit /= self.repetition;
            } else {
                *logit *= self.repetition;
            }
            if count > 0 {
                *logit -= self.frequency * count as f32 + self.presence;
            }
        }
        Ok(())
    }
}

/// Adds a number to single tokens' logits.
#[derive(Clone, Debug)]
pub struct Bias(pub Vec<(u32, f32)>);

impl LogitsProcessor for Bias {
    fn process(
        &mut self,
        _history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        for &(token, bias) in &self.0 {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        Ok(())
    }
}

/// Bans tokens until the output has `until` tokens.
#[derive(Clone, Debug)]
pub struct Ban {
    /// The banned tokens.
    pub tokens: Vec<u32>,
    /// Length of the output from which on they are allowed.
    pub until: usize,
}

impl LogitsProcessor for Ban {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        if history.generated.len() >= self.until {
            return Ok(());
        }
        for &token in &self.tokens {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_count_the_right_tokens() {
        let mut penalties = Penalties::new(2.0, 0.5, 0.25);
        let mut logits = vec![4.0, -4.0, 4.0, -4.0, 4.0];
        let history = TokenHistory { prompt: &[0, 1, 9], generated: &[2, 3, 3] };
        penalties.process(history, &mut logits).unwrap();
        assert_eq!(logits, [2.0, -8.0, 1.25, -9.25, 4.0]);
    }

    #[test]
    fn counts_kept_between_calls_equal_a_fresh_count() {
        let (prompt, generated) = ([1, 2, 2], [3, 1, 3, 4, 3]);
        let mut kept = Penalties::new(1.3, 0.7, 0.1);
        for len in 0..=generated.len() {
            let history = TokenHistory { prompt: &prompt, generated: &generated[..len] };
            let mut expected = vec![1.5f32; 6];
            let mut logits = expected.clone();
            Penalties::new(1.3, 0.7, 0.1).process(history, &mut expected).unwrap();
            kept.process(history, &mut logits).unwrap();
            assert_eq!(logits, expected);
        }
    }
}
