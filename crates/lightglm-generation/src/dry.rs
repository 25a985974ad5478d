//! `Dry`: makes it dear to say at length what was said before.

use std::collections::HashMap;

use crate::logits_processor::{LogitsProcessor, ProcessorError, TokenHistory};

/// What is subtracted at most: no logit of a model is as far from another.
const MOST: f32 = 1e4;

/// "Don't repeat yourself": where the last tokens of the output have stood in it before, the token that followed them
/// there becomes less likely, the more so the longer the repeated run.
///
/// ```text
/// l = l - multiplier * base^(run - allowed_length)    where run >= allowed_length
/// ```
/// `run` is the longest one that the token would continue. The prompt does not count: what a reply copies from it is not a
/// repetition.
///
/// Source: the sampler "DRY" of text-generation-webui and llama.cpp (`llama_sampler_init_dry`), without its sequence
/// breakers.
#[derive(Clone, Debug)]
pub struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: usize,
    /// By place, the length of the run that ends there and at the end, too.
    runs: Vec<usize>,
    /// The longest run of each token that would continue one.
    longest: HashMap<u32, usize>,
}

impl Dry {
    /// Runs of `allowed_length` tokens, at least 1, cost `multiplier`, and each further token `base` times as much.
    pub fn new(multiplier: f32, base: f32, allowed_length: usize) -> Self {
        Self {
            multiplier,
            base,
            allowed_length: allowed_length.max(1),
            runs: Vec::new(),
            longest: HashMap::new(),
        }
    }

    /// Fills `runs` for `tokens`: the Z-function of the text read backwards, in time proportional to its length.
    fn find_runs(&mut self, tokens: &[u32]) {
        let n = tokens.len();
        let back = |at: usize| tokens[n - 1 - at];
        self.runs.clear();
        self.runs.resize(n, 0);
        let (mut left, mut right) = (0, 0);
        for at in 1..n {
            let mut run = if at < right { self.runs[at - left].min(right - at) } else { 0 };
            while at + run < n && back(run) == back(at + run) {
                run += 1;
            }
            self.runs[at] = run;
            if at + run > right {
                (left, right) = (at, at + run);
            }
        }
    }
}

impl LogitsProcessor for Dry {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        let tokens = history.generated;
        self.find_runs(tokens);
        self.longest.clear();
        for (at, &run) in self.runs.iter().enumerate() {
            if run < self.allowed_length {
                continue;
            }
            // What followed there.
            let token = tokens[tokens.len() - at];
            let longest = self.longest.entry(token).or_insert(run);
            *longest = run.max(*longest);
        }
        for (&token, &run) in &self.longest {
            if let Some(logit) = logits.get_mut(token as usize) {
                let further = (run - self.allowed_length).min(1000) as i32;
                *logit -= (self.multiplier * self.base.powi(further)).min(MOST);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The longest run that ends the output and stood before `token`, by looking everywhere.
    fn longest(tokens: &[u32], token: u32) -> usize {
        let followed = (0..tokens.len()).filter(|at| tokens[*at] == token);
        let run = |at: usize| {
            let pairs = tokens[..at].iter().rev().zip(tokens.iter().rev());
            pairs.take_while(|(a, b)| a == b).count()
        };
        followed.map(run).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn each_token_costs_its_longest_run(
            tokens in proptest::collection::vec(0_u32..3, 0..40),
            allowed in 1_usize..5,
        ) {
            let mut logits = vec![0.0; 3];
            let history = TokenHistory { prompt: &[0, 1, 2, 0, 1, 2], generated: &tokens };
            Dry::new(0.5, 2.0, allowed).process(history, &mut logits).unwrap();
            for (token, logit) in logits.iter().enumerate() {
                let run = longest(&tokens, token as u32);
                let cost = if run < allowed { 0.0 } else { 0.5 * 2.0_f32.powi((run - allowed) as i32) };
                prop_assert_eq!(*logit, -cost.min(MOST), "token {} of {:?}", token, tokens);
            }
        }
    }

    #[test]
    fn a_long_output_takes_little_time_and_no_infinity() {
        let tokens = vec![7; 20_000];
        let mut logits = vec![0.0; 8];
        let history = TokenHistory { prompt: &[], generated: &tokens };
        let mut dry = Dry::new(0.8, 1.75, 2);
        for _ in 0..100 {
            logits.fill(0.0);
            dry.process(history, &mut logits).unwrap();
        }
        assert_eq!(logits[7], -MOST);
    }
}
