//! `Failure`: the input that broke a target.

use std::path::PathBuf;
use std::time::Duration;

/// What a target did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It panicked, with this message.
    Panic(String),
    /// It took this long.
    Slow(Duration),
    /// The process' peak of virtual memory grew by this many bytes.
    Memory(u64),
}

/// The input that broke a target, and how to get there again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "fuzz target `{target}`, seed {seed}, execution {execution}: {defect:?}; the input of {} bytes {}",
    input.len(),
    match file {
        Ok(file) => format!("lies in {}", file.display()),
        Err(reason) => format!("could not be written ({reason}): {input:?}"),
    }
)]
pub struct Failure {
    /// `Fuzzer::target`.
    pub target: String,
    /// `Fuzzer::seed`.
    pub seed: u64,
    /// Executions before this one.
    pub execution: u64,
    /// What happened.
    pub defect: Defect,
    /// The input.
    pub input: Vec<u8>,
    /// Where the input was written, or why it could not be.
    pub file: Result<PathBuf, String>,
}
