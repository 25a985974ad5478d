//! `StructuredError`: why a constraint cannot be followed.

/// Why a constraint cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StructuredError {
    /// More than the limits allow.
    #[error("{field}: {actual} {unit} are more than the {limit} allowed")]
    TooLarge {
        /// Of the request: `schema`, `regex`, `tools[2].parameters`, ...
        field: String,
        /// What is counted.
        unit: &'static str,
        /// The largest number accepted.
        limit: usize,
        /// What the field has, or how far it was counted.
        actual: usize,
    },
    /// Nothing to choose from, or nothing to match.
    #[error("{field}: is empty")]
    Empty {
        /// Of the request.
        field: String,
    },
    /// A name that cannot be told from other text in a reply.
    #[error("{field}: `{name}` cannot be called: {reason}")]
    ToolName {
        /// Of the request.
        field: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Arguments of a call are objects and nothing else.
    #[error("{field}: is not the schema of an object")]
    NotAnObject {
        /// Of the request.
        field: String,
    },
    /// It is malformed, asks for what is not supported, or takes too much work.
    #[error("{field}: {reason}")]
    Refused {
        /// Of the request.
        field: String,
        /// In llguidance's words, mostly.
        reason: String,
    },
    /// The model's vocabulary cannot be made into an automaton's alphabet.
    #[error("the vocabulary cannot be used for structured output: {reason}")]
    Vocabulary {
        /// Why.
        reason: String,
    },
}

impl StructuredError {
    /// The field of the request that is at fault; none where it is the model.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::TooLarge { field, .. }
            | Self::Empty { field }
            | Self::ToolName { field, .. }
            | Self::NotAnObject { field }
            | Self::Refused { field, .. } => Some(field),
            Self::Vocabulary { .. } => None,
        }
    }
}

/// Characters of llguidance's messages that are passed on: they quote the constraint.
const MESSAGE_CHARS: usize = 400;

/// What llguidance said, without what only its developers can read.
pub(crate) fn message(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let end = ["\n<non-verbose/>", "\n<backtrace>", "\n<state>"].into_iter();
    let end = end.filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    match text[..end].trim() {
        // With a list of those it knows, which is empty.
        t if t.contains("unknown special token") => "control tokens cannot be named".into(),
        "NoExtensionBias" => "no token of the vocabulary can follow".into(),
        t => match t.char_indices().nth(MESSAGE_CHARS) {
            Some((end, _)) => format!("{}...", &t[..end]),
            None => t.to_owned(),
        },
    }
}
