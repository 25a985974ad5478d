//! `Report`: what the program `distill` found, as JSON and as a table.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::measured::{self, Measured};

/// What a stage that trains tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taught {
    /// How the run ended: `lightglm::training::TrainOutcome`.
    pub outcome: Value,
    /// Seconds; of the last part of a run that was interrupted.
    pub seconds: f64,
}

/// What `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The teacher's name or folder.
    pub teacher: String,
    /// The quantized student's scheme.
    pub policy: String,
    /// The run's seed.
    pub seed: u64,
    /// Rows that were learnt from, their tokens, and those with a label.
    pub train_rows: usize,
    /// As [`train_rows`](Self::train_rows).
    pub train_tokens: usize,
    /// As [`train_rows`](Self::train_rows).
    pub train_labels: usize,
    /// Rows that were measured on.
    pub test_rows: usize,
    /// Their tokens with a label.
    pub test_labels: usize,
    /// Bytes of the file of the teacher's distributions, one for each label.
    pub cache_bytes: u64,
    /// The student, taught by the teacher.
    pub distilled: Taught,
    /// Another of the same beginning, taught the text alone, with `--compare`.
    pub plain: Option<Taught>,
    /// The student as it learnt to bear quantization; `None` where it was only rounded.
    pub quantized: Option<Taught>,
    /// All models, measured.
    pub models: Vec<Measured>,
    /// The most memory that was held, where the system tells.
    pub peak_resident_bytes: Option<u64>,
    /// Threads.
    pub threads: usize,
}

impl Report {
    /// Prints it, of a run in the folder `output`.
    pub fn print(&self, output: &Path) {
        measured::print(&self.models);
        println!(
            "\n{} rows of {} tokens, {} learnt in {:.0} s; the teacher's file has {:.1} bytes for each; {} measured",
            self.train_rows,
            self.train_tokens,
            self.train_labels,
            self.distilled.seconds,
            self.cache_bytes as f64 / self.train_labels.max(1) as f64,
            self.test_labels,
        );
        println!("quantized student: {}", output.join("quantized/model").display());
    }
}
