//! `TrainError`.

use std::path::PathBuf;

use lightglm_core::LmError;

use super::config::TrainConfigError;
use crate::checkpoint::TrainCheckpointError;

/// Why training ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration is impossible.
    #[error(transparent)]
    Config(#[from] TrainConfigError),
    /// There is nothing to learn from.
    #[error("no example has a token to learn")]
    NoExamples,
    /// An example has no tokens, or not a target for each.
    #[error("line {line}: {tokens} tokens and {targets} targets, not at least one and as many")]
    Example {
        /// The example's line.
        line: usize,
        /// Its tokens.
        tokens: usize,
        /// Its targets.
        targets: usize,
    },
    /// An example does not fit into a forward pass.
    #[error("line {line}: {tokens} tokens, more than `micro_batch_tokens` = {limit}")]
    TooLong {
        /// The example's line.
        line: usize,
        /// Its tokens.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// A trainable parameter is not f32: small updates would round to nothing.
    #[error("parameter `{name}` is {dtype} and cannot be trained: load the model in f32")]
    Precision {
        /// The parameter.
        name: String,
        /// Its precision.
        dtype: String,
    },
    /// No parameter requires gradients.
    #[error("no parameter is trainable")]
    NoParameters,
    /// The loss, the gradients or the parameters are not finite. Parameters that are not finite are
    /// never saved.
    #[error("step {step}: {what} is {value}; lines of the batch: {lines:?}{}", saved(.checkpoint))]
    NotFinite {
        /// The step, counted from 1.
        step: u64,
        /// `loss`, `gradient norm` or `parameter norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The lines that the batch's examples came from.
        lines: Vec<usize>,
        /// The last good state, where checkpoints are kept: that before the step, or the newest one
        /// that is there.
        checkpoint: Option<PathBuf>,
    },
    /// The model refused a batch.
    #[error("step {step}, lines {lines:?}: {source}")]
    Model {
        /// The step, counted from 1.
        step: u64,
        /// The lines that the batch's examples came from.
        lines: Vec<usize>,
        /// Why.
        source: LmError,
    },
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] TrainCheckpointError),
}

fn saved(checkpoint: &Option<PathBuf>) -> String {
    checkpoint
        .as_ref()
        .map_or(String::new(), |path| format!("; last good state: {}", path.display()))
}
