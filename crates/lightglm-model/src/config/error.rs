//! What can be wrong with a configuration.

use std::path::{Path, PathBuf};

/// Why a configuration was refused; each variant names the file and, where there is one, the key.
///
/// Keys inside of an object are written with a dot: `rope_parameters.rope_theta`. A GGUF file's keys
/// are spelled as in the file, `llama.block_count`; values that contradict each other, as in
/// `config.json`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not JSON (`NaN` and `Infinity` are not JSON either).
    #[error("{}: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where the JSON breaks.
        source: serde_json::Error,
    },
    /// A key without a default is not there.
    #[error("{}: `{key}` is missing", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// A key has another type than it should.
    #[error("{}: `{key}` should be {expected}, but is {actual}", file.display())]
    WrongType {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// What stands there.
        actual: String,
    },
    /// A value of the right type that no model can have.
    #[error("{}: `{key}` is {value}: {reason}", file.display())]
    Impossible {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// Why it cannot be.
        reason: String,
    },
    /// A value that other programs may know, and this one does not.
    #[error("{}: `{key}` is `{value}`, supported: {supported}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The values that are supported.
        supported: &'static str,
    },
}

impl ConfigError {
    /// The key at fault, or `None` where the file as a whole is.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Io { .. } | Self::Json { .. } => None,
            Self::Missing { key, .. }
            | Self::WrongType { key, .. }
            | Self::Impossible { key, .. }
            | Self::Unsupported { key, .. } => Some(key),
        }
    }

    /// [`ConfigError::Impossible`] from its parts.
    pub(crate) fn impossible(
        file: &Path,
        key: impl Into<String>,
        value: impl ToString,
        reason: impl Into<String>,
    ) -> Self {
        Self::Impossible {
            file: file.into(),
            key: key.into(),
            value: value.to_string(),
            reason: reason.into(),
        }
    }
}
