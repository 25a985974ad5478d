//! `TokenizeError`: why a row did not become tokens.

use lightglm_text::ChatTextError;

use crate::data::drop_report::{DropReason, DropReport};

/// Why a row did not become tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// The tokenizer refused a plain text.
    #[error("line {line}")]
    Text {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
        /// Why.
        source: ChatTextError,
    },
    /// The chat template or the tokenizer refused a conversation.
    #[error("line {line}: turn {turn}")]
    Conversation {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
        /// The first turn, counting from 1, with which the conversation is refused.
        turn: usize,
        /// Why.
        source: ChatTextError,
    },
    /// A conversation in which nobody speaks.
    #[error("line {line}: the conversation has no turns")]
    NoTurns {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
    },
    /// The row's `tools` are no list.
    #[error("line {line}: tools is not a list")]
    Tools {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
    },
    /// A preference between answers, where answers are learnt.
    #[error(
        "line {line}: a preference between answers (`chosen`, `rejected`), and only answers are learnt"
    )]
    Preference {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
    },
    /// The chat template does not write calls of tools.
    #[error("line {line}: turn {turn}: the model's chat template does not write `tool_calls`")]
    ToolCalls {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
        /// The first turn with calls, counting from 1.
        turn: usize,
    },
    /// The chat template does not write what an answer is to teach.
    #[error("line {line}: turn {turn}: the model's chat template does not write {field}")]
    NotWritten {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
        /// The answer's turn, counting from 1.
        turn: usize,
        /// What it leaves out.
        field: &'static str,
    },
    /// More than half of the rows were dropped, and nobody said that they may be.
    #[error("more than half of the rows cannot be used\n{report}")]
    MostDropped {
        /// Why.
        report: Box<DropReport>,
    },
    /// The chat template writes an answer so that nobody can tell which of the conversation's tokens are
    /// its own.
    #[error(
        "line {line}: the tokens of the answer in turn {turn} of {turns} cannot be told in what the chat \
         template writes"
    )]
    Rewritten {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
        /// The answer's turn, counting from 1.
        turn: usize,
        /// Turns of the conversation.
        turns: usize,
    },
    /// The template writes nothing behind the last answer, and the model has no token that ends one.
    #[error("line {line}: turn {turn}: the model has no token that ends an answer")]
    NoEndToken {
        /// Line of the file, counting from 1, on which the row begins.
        line: usize,
        /// The answer's turn, counting from 1.
        turn: usize,
    },
}

impl TokenizeError {
    /// The heading under which a dropped row is counted; `None` where the row is not at fault.
    pub fn reason(&self) -> Option<DropReason> {
        Some(match self {
            Self::Conversation { source: ChatTextError::NoTemplate { .. }, .. } => return None,
            Self::Text { .. } | Self::Conversation { .. } => DropReason::Refused,
            Self::NoTurns { .. } => DropReason::NoAssistantTurn,
            Self::Tools { .. } => DropReason::WrongType,
            Self::Preference { .. } => DropReason::Preference,
            Self::ToolCalls { .. } => DropReason::ToolCalls,
            Self::NotWritten { .. } => DropReason::NotWritten,
            Self::Rewritten { .. } => DropReason::Rewritten,
            Self::NoEndToken { .. } | Self::MostDropped { .. } => return None,
        })
    }

    /// What is wrong with the row, and why; without its line.
    pub(super) fn what(&self) -> String {
        let what = match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        };
        match what.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
            Some((_, what)) => what.to_owned(),
            None => what,
        }
    }
}
