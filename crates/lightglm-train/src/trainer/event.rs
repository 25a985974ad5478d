//! What a run tells while it goes on.

use std::path::PathBuf;

use serde::Serialize;

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// The step, counted from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Epochs done, with the part of the running one.
    pub epoch: f64,
    /// Mean loss of a label, before the step.
    pub loss: f64,
    /// The step's learning rate.
    pub learning_rate: f64,
    /// The gradients' global norm before clipping.
    pub grad_norm: f64,
    /// Tokens of the step.
    pub tokens: usize,
    /// Labels of the step.
    pub labels: usize,
    /// Seconds that the step took.
    pub seconds: f64,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrainEvent {
    /// The run begins or goes on.
    Begin {
        /// Steps done before.
        step: u64,
        /// Steps of the whole run.
        total_steps: u64,
        /// Elements of trainable parameters.
        trainable: usize,
    },
    /// A step is done.
    Step(StepReport),
    /// The validation examples were scored.
    Validation {
        /// Steps done.
        step: u64,
        /// Mean loss of a label.
        loss: f64,
        /// Whether it is the smallest so far.
        best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// Steps done.
        step: u64,
        /// The checkpoint's folder.
        path: PathBuf,
    },
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All epochs are done.
    Finished,
    /// The validation loss did not fall any more; the parameters are the best ones (the last ones
    /// where no validation loss was a number).
    Stopped,
    /// Whoever watches asked for it; the state has been saved where checkpoints are kept.
    Interrupted,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainOutcome {
    /// Why it ended.
    pub reason: StopReason,
    /// Steps done.
    pub step: u64,
    /// The smallest validation loss, and its step.
    pub best: Option<(f64, u64)>,
    /// Tokens seen.
    pub tokens: u64,
}
