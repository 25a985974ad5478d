//! `TeacherCacheError`.

use std::path::PathBuf;

use crate::error::DistillError;

/// What is wrong with a cache of a teacher's distributions, and in which file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeacherCacheError {
    /// The operating system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is another file, or one of a later version.
    #[error("{}: it is no cache of a teacher: {reason}", path.display())]
    NotACache {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// Its bytes are not those that were written.
    #[error("{}, byte {offset}: the cache is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where what is damaged begins.
        offset: u64,
        /// How that shows.
        reason: String,
    },
    /// It was made of something else.
    #[error("{}: the cache's {field} is {cached}, not {wanted}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What is not the same.
        field: &'static str,
        /// The cache's.
        cached: String,
        /// What was asked for.
        wanted: String,
    },
    /// It is finished: there is nothing to go on with.
    #[error("{}: the cache is finished already", path.display())]
    Finished {
        /// The file.
        path: PathBuf,
    },
    /// Another writer is at it.
    #[error("{}: another process is writing it", path.display())]
    InUse {
        /// The unfinished file.
        path: PathBuf,
    },
    /// A span was not in the text that the cache was made of.
    #[error(
        "{}: it has no span {key:016x} ({tokens} tokens, {labels} labelled): it was made of another text",
        path.display()
    )]
    UnknownSpan {
        /// The file.
        path: PathBuf,
        /// The hash of the span's tokens and targets.
        key: u64,
        /// Its tokens.
        tokens: usize,
        /// Those with a target.
        labels: usize,
    },
    /// What the teacher says cannot be stored.
    #[error("{}: {source}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DistillError,
    },
    /// The teacher could not be asked about a span.
    #[error("example {example}: {source}")]
    Teacher {
        /// The first of those that it was asked about, counted from 0.
        example: usize,
        /// Why.
        source: lightglm_core::LmError,
    },
}
