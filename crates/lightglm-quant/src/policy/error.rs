//! `PolicyError`: why a text is no policy, or none for this model.

use crate::SchemeError;

/// Why a text is no policy, or none for this model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A rule has no scheme.
    #[error("policy rule `{rule}`: expected a name or pattern, `=` and a scheme")]
    Rule {
        /// The rule.
        rule: String,
    },
    /// A pattern is no glob.
    #[error("policy pattern `{pattern}`: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern matches no matrix of the model.
    #[error(
        "policy pattern `{pattern}` matches no matrix of this model (names look like `{example}`)"
    )]
    NoSuchMatrix {
        /// The pattern.
        pattern: String,
        /// A name that there is.
        example: String,
    },
    /// A scheme that nothing can be quantized to.
    #[error(
        "scheme `{scheme}`: nested scales come from GGUF files as they are stored; nothing is quantized to them"
    )]
    Nested {
        /// The scheme.
        scheme: String,
    },
    /// A scheme is unknown.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
}
