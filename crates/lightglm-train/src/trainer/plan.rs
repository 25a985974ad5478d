//! `Plan`: which examples each step takes. A function of the configuration alone, so that a resumed run
//! computes it again.

use super::TokenizedExample;
use super::config::TrainConfig;
use super::error::TrainError;
use crate::data::{PackOrder, epoch_order, pack};
use crate::optimizer::Schedule;

pub(super) struct Plan<'a> {
    config: &'a TrainConfig,
    examples: usize,
}

impl<'a> Plan<'a> {
    pub(super) fn new(config: &'a TrainConfig, examples: usize) -> Self {
        Self { config, examples }
    }

    pub(super) fn steps_per_epoch(&self) -> u64 {
        self.examples.div_ceil(self.config.batch_size) as u64
    }

    pub(super) fn total_steps(&self) -> u64 {
        self.steps_per_epoch().saturating_mul(self.config.epochs as u64)
    }

    pub(super) fn schedule(&self) -> Schedule {
        let total_steps = self.total_steps();
        let warmup_steps = (total_steps as f64 * self.config.warmup_ratio) as u64;
        Schedule { shape: self.config.schedule, warmup_steps, total_steps }
    }

    /// The examples of step `step`, counted from 0.
    pub(super) fn batch(&self, step: u64) -> Vec<usize> {
        let (epoch, within) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let order = epoch_order(self.examples, self.config.seed, epoch);
        let start = within as usize * self.config.batch_size;
        let end = (start + self.config.batch_size).min(self.examples);
        order[start..end].to_vec()
    }

    /// Whether an epoch ends behind `step` steps.
    pub(super) fn ends_epoch(&self, step: u64) -> bool {
        step.is_multiple_of(self.steps_per_epoch())
    }

    /// Whether something is due behind `step` steps that is so every so many, or at an epoch's end.
    pub(super) fn is_due(&self, step: u64, every: Option<u64>) -> bool {
        match every {
            Some(every) => step.is_multiple_of(every),
            None => self.ends_epoch(step),
        }
    }

    /// Cuts examples into forward passes.
    pub(super) fn micro_batches(
        &self,
        examples: &[TokenizedExample],
        chosen: &[usize],
    ) -> Result<Vec<Vec<usize>>, TrainError> {
        let limit = self.config.micro_batch_tokens;
        let lengths: Vec<usize> = chosen.iter().map(|&i| examples[i].tokens.len()).collect();
        let batches = pack(&lengths, limit, PackOrder::Given).map_err(|_| {
            let long = chosen.iter().map(|&i| &examples[i]).find(|e| e.tokens.len() > limit);
            let (line, tokens) = long.map_or((0, 0), |e| (e.line, e.tokens.len()));
            TrainError::TooLong { line, tokens, limit }
        })?;
        Ok(batches.into_iter().map(|b| b.into_iter().map(|i| chosen[i]).collect()).collect())
    }
}
