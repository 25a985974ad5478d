//! `ServerTeacherError`.

use std::time::Duration;

/// Why a server did not answer as a teacher.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerTeacherError {
    /// The address, or what is sent with a request, is none.
    #[error("{url}: {reason}")]
    Request {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The server refused.
    #[error("{url}: status {status}: {message}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What it said, the beginning of it.
        message: String,
    },
    /// The server could not be reached, or went away.
    #[error("{url}: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The answer took too long.
    #[error("{url}: no answer within {} s", timeout.as_secs_f64())]
    Timeout {
        /// The address.
        url: String,
        /// [`ServerTeacherOptions::timeout`](super::ServerTeacherOptions::timeout).
        timeout: Duration,
    },
    /// The answer is larger than allowed.
    #[error("{url}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// [`ServerTeacherOptions::max_body`](super::ServerTeacherOptions::max_body).
        limit: u64,
    },
    /// The answer is no chat completion.
    #[error("{url}: status {status}: not a chat completion: {reason}")]
    Malformed {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What is wrong.
        reason: String,
    },
}

impl ServerTeacherError {
    /// Whether the same request may be answered later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Request { .. } | Self::TooLarge { .. } | Self::Malformed { .. } => false,
        }
    }

    /// Whether the fault is this one question's: too long a conversation, say.
    pub fn is_of_question(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 413 | 422, .. })
    }
}
