//! `PackedFileError`: why a file is no quantized checkpoint that we read.

use std::path::PathBuf;

use lightglm_kernels::PackingError;

/// Why a file is no quantized checkpoint that we read, or not this one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackedFileError {
    /// The file has no index of packed matrices: it is no quantized checkpoint of ours.
    #[error("{}: not a quantized checkpoint (no `lightglm.quantization` in its metadata)", file.display())]
    NotQuantized {
        /// The file.
        file: PathBuf,
    },
    /// The index is of a format or a version that we do not know.
    #[error("{}: packed as `{format}` version {version}; this program reads {} version {}", file.display(), super::PACKED_FORMAT, super::PACKED_VERSION)]
    Version {
        /// The file.
        file: PathBuf,
        /// The format as the file spells it.
        format: String,
        /// The version as the file spells it.
        version: String,
    },
    /// The index is malformed.
    #[error("{}: malformed `lightglm.quantization` metadata: {reason}", file.display())]
    Index {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the place.
        reason: String,
    },
    /// The index and the model's configuration, or the index and the scheme, contradict each other.
    #[error("{}: `{name}`: {reason}", file.display())]
    Matrix {
        /// The file.
        file: PathBuf,
        /// The matrix's name.
        name: String,
        /// What contradicts what, with the numbers.
        reason: String,
    },
    /// A part of a packed matrix has another type or shape than the index asks for.
    #[error("{}: tensor `{tensor}` is {actual}, the index asks for {expected}", file.display())]
    Part {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Type and shape that follow from the index.
        expected: String,
        /// Type and shape in the file.
        actual: String,
    },
    /// The parts do not make a matrix.
    #[error("{}: `{name}`: {source}", file.display())]
    Pack {
        /// The file.
        file: PathBuf,
        /// The matrix's name.
        name: String,
        /// What does not fit.
        source: PackingError,
    },
}
