//! `RunState`: where a run stands.

use serde::{Deserialize, Serialize};

/// The version of `run.json` that this crate writes.
pub const FORMAT_VERSION: u32 = 1;

/// Where a run stands behind a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// Steps done.
    pub step: u64,
    /// What the run was started with, as the trainer tells it; a resumed run must say the same.
    pub fingerprint: String,
    /// The smallest validation loss so far, by its bits, so that it is read as it was.
    pub best_loss_bits: Option<u64>,
    /// The step of that loss.
    pub best_step: u64,
    /// Validations since then.
    pub without_improvement: usize,
    /// Tokens seen.
    pub tokens: u64,
}

impl RunState {
    /// A run that has not begun.
    pub fn new(fingerprint: String) -> Self {
        Self {
            version: FORMAT_VERSION,
            step: 0,
            fingerprint,
            best_loss_bits: None,
            best_step: 0,
            without_improvement: 0,
            tokens: 0,
        }
    }

    /// The smallest validation loss so far.
    pub fn best_loss(&self) -> Option<f64> {
        self.best_loss_bits.map(f64::from_bits)
    }
}
