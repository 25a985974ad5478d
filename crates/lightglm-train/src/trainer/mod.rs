//! The training loop.

mod config;
mod error;
mod event;
mod metrics_file;
mod plan;
mod rows_of_step;
mod run;

pub use config::{TrainConfig, TrainConfigError};
pub use error::TrainError;
pub use event::{StepReport, StopReason, TrainEvent, TrainOutcome};
pub use metrics_file::MetricsFile;
pub use rows_of_step::RowsOfStep;
pub use run::Trainer;

/// An example as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedExample {
    /// Token ids, at least one.
    pub tokens: Vec<u32>,
    /// What is wanted behind each token, `None` where nothing is asked.
    pub targets: Vec<Option<u32>>,
    /// The line it came from, for messages.
    pub line: usize,
}

impl TokenizedExample {
    /// An example of which the tokens marked in `learn` are learnt, each from those in front of it.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn new(tokens: Vec<u32>, learn: &[bool], line: usize) -> Self {
        assert_eq!(tokens.len(), learn.len(), "a mark for each token");
        let next = |i: usize| learn.get(i + 1).copied().unwrap_or(false).then(|| tokens[i + 1]);
        let targets = (0..tokens.len()).map(next).collect();
        Self { tokens, targets, line }
    }

    /// Rows with a target.
    pub fn labels(&self) -> usize {
        self.targets.iter().flatten().count()
    }

    pub(crate) fn span(&self) -> lightglm_core::LabelledSpan<'_> {
        lightglm_core::LabelledSpan::text(&self.tokens, &self.targets)
    }
}
