//! What can go wrong inside a template.

/// Why a template could not be read or run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is no Jinja.
    #[error("{reason}")]
    Syntax {
        /// The parser's words.
        reason: String,
    },
    /// The template uses something that is not run here: a filter, a test, a method, a function or a
    /// tag. Found when the template is loaded.
    #[error("{construct} is not supported")]
    Unsupported {
        /// The construct, as `filter "xmlattr"`.
        construct: String,
    },
    /// The template called `raise_exception`.
    #[error("{message}")]
    Raised {
        /// What it said.
        message: String,
    },
    /// Something was done to a value that does not exist.
    #[error("{what} is undefined")]
    Undefined {
        /// The variable or attribute.
        what: String,
    },
    /// An operation does not take these values.
    #[error("{reason}")]
    Operation {
        /// What was done to what.
        reason: String,
    },
    /// It ran for too long.
    #[error("it takes more than {limit} steps")]
    OutOfFuel {
        /// Most accepted steps.
        limit: u64,
    },
    /// Macros, calls and expressions are nested too deeply.
    #[error("it is nested deeper than {limit} levels")]
    TooDeep {
        /// Deepest accepted nesting.
        limit: usize,
    },
    /// It made a text longer than any prompt.
    #[error("it makes a text of more than {limit} characters")]
    TextTooLong {
        /// Longest accepted text, in characters.
        limit: usize,
    },
}

impl TemplateError {
    pub(crate) fn operation(reason: impl Into<String>) -> Self {
        Self::Operation { reason: reason.into() }
    }
}
