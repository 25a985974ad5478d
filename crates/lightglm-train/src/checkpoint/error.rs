//! `TrainCheckpointError`.

use std::path::{Path, PathBuf};

use lightglm_core::WeightError;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainCheckpointError {
    /// The operating system said no. Nothing half-written stays.
    #[error("{file}: {source}")]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// A tensor file could not be written.
    #[error(transparent)]
    Write(#[from] WeightError),
    /// A file is not what a checkpoint has.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint is from a newer version.
    #[error("{file}: version {found} of checkpoints, this program reads {known}")]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is read.
        known: u32,
    },
    /// A tensor is missing, too many, or of another shape.
    #[error("{file}: tensor `{name}`: {reason}")]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint is from a run with another configuration or other data.
    #[error("{folder}: is from another run ({reason}); resume it with the same settings and data")]
    OtherRun {
        /// The checkpoint.
        folder: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A fresh run in a folder that has checkpoints.
    #[error("{folder}: holds checkpoints up to step {step}; resume, or choose another folder")]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The last step.
        step: u64,
    },
}

impl TrainCheckpointError {
    pub(super) fn io(file: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { file: file.to_path_buf(), source }
    }

    pub(super) fn malformed(file: &Path, reason: impl ToString) -> Self {
        Self::Malformed { file: file.to_path_buf(), reason: reason.to_string() }
    }
}
