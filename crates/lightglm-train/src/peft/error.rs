//! `PeftError`.

use std::path::{Path, PathBuf};

use lightglm_core::WeightError;

use crate::lora::LoraError;

/// Why an adapter could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeftError {
    /// The operating system said no.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The matrices could not be written.
    #[error(transparent)]
    Write(#[from] WeightError),
    /// A file cannot be read as what it should be.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration asks for something that is not built here.
    #[error("{file}: field `{field}` is {value}, which is not supported")]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The field.
        field: String,
        /// Its value.
        value: String,
    },
    /// The configuration is impossible.
    #[error("{file}: {source}")]
    Config {
        /// The file.
        file: PathBuf,
        /// Why.
        source: LoraError,
    },
    /// A matrix does not fit the model or its other half.
    #[error("{file}: tensor `{name}`: {reason}")]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model has no adapter of this name to save.
    #[error("the model has no adapter `{name}`")]
    NoAdapter {
        /// The name.
        name: String,
    },
}

impl PeftError {
    /// What is wrong, with files named without the folders that they are in: for those who are not to know
    /// where a server keeps its files. `None` where the operating system is at fault.
    pub fn without_folders(&self) -> Option<String> {
        let file = match self {
            Self::Malformed { file, .. }
            | Self::Unsupported { file, .. }
            | Self::Config { file, .. }
            | Self::Tensor { file, .. } => file,
            Self::Io { .. } | Self::Write(_) | Self::NoAdapter { .. } => return None,
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Some(self.to_string().replace(&file.display().to_string(), &name))
    }

    pub(super) fn malformed(file: &Path, reason: impl ToString) -> Self {
        Self::Malformed { file: file.to_path_buf(), reason: reason.to_string() }
    }

    pub(super) fn tensor(file: &Path, name: &str, reason: impl ToString) -> Self {
        let (file, name) = (file.to_path_buf(), name.to_owned());
        Self::Tensor { file, name, reason: reason.to_string() }
    }
}
