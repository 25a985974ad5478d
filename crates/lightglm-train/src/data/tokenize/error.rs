//! `TokenizeError`: why a row did not become tokens.

use lightglm_text::ChatTextError;

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
    /// The chat template writes an answer otherwise once more turns follow, so that nobody can tell
    /// which of the conversation's tokens are its own.
    #[error(
        "line {line}: the chat template writes turn {turn} otherwise where more of the {turns} turns \
         follow, so the tokens of its answer cannot be told"
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
