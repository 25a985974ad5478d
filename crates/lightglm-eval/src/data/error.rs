//! `EvalDataError`: why a file could not be read.

use std::path::{Path, PathBuf};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalDataError {
    /// The file could not be opened, read or decompressed.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system or the decompressor said.
        source: std::io::Error,
    },
    /// The file is larger than anything that is read here.
    #[error("{}: more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes, decompressed.
        limit: u64,
    },
    /// The file is not UTF-8.
    #[error("{}: byte {valid_up_to} is not UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Bytes, decompressed, in front of the wrong one.
        valid_up_to: usize,
    },
    /// There is nothing in the file.
    #[error("{}: nothing is in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what it should be.
    #[error("{}:{}{}: {reason}", path.display(), line, Field(field))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, counting from 1, where the record begins or the syntax breaks.
        line: usize,
        /// Which field of the record (`paragraphs[0].qas[2].id`); empty where the record as a
        /// whole is meant.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two records have the same id.
    #[error("{}: the id `{id}` stands there twice", path.display())]
    DuplicateId {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
    },
    /// A label that is not in the list of labels.
    #[error("{}:{line}: `{label}` is none of the {labels} labels", path.display())]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// Line, counting from 1.
        line: usize,
        /// The label.
        label: String,
        /// How many labels there are.
        labels: usize,
    },
}

impl EvalDataError {
    pub(super) fn malformed(
        path: &Path,
        line: usize,
        field: impl Into<String>,
        reason: impl ToString,
    ) -> Self {
        let (path, field) = (path.to_owned(), field.into());
        Self::Malformed { path, line, field, reason: reason.to_string() }
    }
}

/// Shows the field of a [`EvalDataError::Malformed`], if there is one.
struct Field<'a>(&'a str);

impl std::fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}
