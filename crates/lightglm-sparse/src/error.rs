//! `SparsityError`.

use std::path::PathBuf;

/// Why thresholds or neurons could not be found, or thresholds read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SparsityError {
    /// An activation is NaN or infinite.
    #[error("`{name}`: activation {value} in row {row}, channel {channel} is not finite")]
    NotFinite {
        /// The projection.
        name: String,
        /// The row of the call.
        row: usize,
        /// The input channel.
        channel: usize,
        /// The activation.
        value: f32,
    },
    /// The activations of a call are no whole number of rows, or of another width than before.
    #[error("`{name}`: {len} activations are no rows of {width}")]
    Width {
        /// The projection.
        name: String,
        /// Activations of the call.
        len: usize,
        /// Input channels.
        width: usize,
    },
    /// Nothing was recorded: the calibration text was empty, or the model was not run.
    #[error("nothing was recorded to calibrate on")]
    NothingRecorded,
    /// A sparsity that is not in `0..=1`, or NaN.
    #[error("sparsity {0} is not between 0 and 1")]
    Sparsity(f64),
    /// A fraction of neurons to keep that is not above 0 and at most 1, or NaN.
    #[error("the fraction of neurons to keep is {0}, not above 0 and at most 1")]
    Keep(f64),
    /// A measured error is negative, NaN or infinite.
    #[error("the error at sparsity {sparsity} is {error}, which is no finite number from 0 on")]
    BlockError {
        /// The sparsity.
        sparsity: f32,
        /// The error.
        error: f64,
    },
    /// A projection of the model has no threshold.
    #[error("there is no threshold for `{0}`")]
    Missing(String),
    /// A threshold is negative, NaN or infinite.
    #[error("`{name}`: threshold {value} is not a finite number from 0 on")]
    Threshold {
        /// The projection.
        name: String,
        /// The threshold.
        value: f32,
    },
    /// The thresholds were calibrated on another model.
    #[error("{file}: the thresholds are of another model ({found}, and this one is {expected})")]
    OtherModel {
        /// The file of thresholds.
        file: PathBuf,
        /// The model's fingerprint.
        expected: String,
        /// The file's fingerprint.
        found: String,
    },
    /// A file of a version that this crate does not read.
    #[error("{file}: version {found} of the format is unknown, {known} is known")]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// What is read.
        known: u32,
    },
    /// The file is not what `Thresholds::save` writes.
    #[error("{file}: not a file of thresholds")]
    Json {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The file could not be read or written.
    #[error("{file}")]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
