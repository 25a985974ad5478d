//! `Fault`, `RowError`, `DataError`: what is wrong with a row, and with a file.

use std::fmt;
use std::path::PathBuf;

use super::drop_report::{DropReason, DropReport};

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that are not UTF-8: another encoding (GBK, UTF-16), or damage.
    #[error(
        "not UTF-8 from byte {byte} of the row on; another encoding is for the reader's options"
    )]
    NotUtf8 {
        /// Bytes of the row in front of the wrong one.
        byte: usize,
    },
    /// Bytes that are none of the encoding's in which the file is read.
    #[error("it does not decode as {encoding}")]
    NotDecodable {
        /// The encoding.
        encoding: &'static str,
    },
    /// The row is longer than the limit.
    #[error("more than {limit} bytes in one row")]
    TooLarge {
        /// Most bytes of a row.
        limit: usize,
    },
    /// The row is not JSON.
    #[error("not JSON: {reason} at column {column}")]
    NotJson {
        /// What the parser said.
        reason: String,
        /// Bytes into the line, counting from 1; 0 where the parser does not say.
        column: usize,
    },
    /// A row of a CSV file with more or fewer fields than its header, or with an open quotation.
    #[error("{actual} fields under a header of {expected}{}", if *open_quote { ", and a quotation that is not closed" } else { "" })]
    FieldCount {
        /// Fields of the header.
        expected: usize,
        /// Fields of the row.
        actual: usize,
        /// Whether the file ended within quotation marks.
        open_quote: bool,
    },
    /// A field that is not there, or null.
    #[error("it is not there")]
    FieldMissing,
    /// A field of another type.
    #[error("{reason}")]
    WrongType {
        /// What was found and what was expected.
        reason: String,
    },
    /// A participant with a role that nobody knows.
    #[error("{} is not a role", Quoted(role))]
    UnknownRole {
        /// The role.
        role: String,
    },
    /// A weight that is neither 0 nor 1.
    #[error("a weight is 0 or 1, not {weight}")]
    Weight {
        /// The weight.
        weight: String,
    },
    /// Two fields of a message that contradict each other on whether it is learnt.
    #[error("it contradicts another mark of what is learnt")]
    LossMarks,
    /// Calls of tools that cannot be read.
    #[error("not a call of a tool: {reason}")]
    ToolCalls {
        /// What is wrong with them.
        reason: String,
    },
    /// Images, sounds or films.
    #[error("the model reads text alone")]
    Media,
    /// An answer that is rated as a whole (KTO), which is no answer to learn.
    #[error("it rates the answer: only answers to learn, and pairs of answers, are read")]
    Rated,
    /// A conversation without an answer (or without any turn).
    #[error("nobody answers")]
    NoAssistantTurn,
    /// A conversation that ends before the answer.
    #[error("the last turn is the {role}'s, not the assistant's")]
    LastTurnNotAssistant {
        /// Whose it is.
        role: super::Role,
    },
    /// All answers have weight 0.
    #[error("every answer has weight 0: there is nothing to learn")]
    NothingToLearn,
    /// An answer of nothing but white space.
    #[error("the answer is empty")]
    EmptyAnswer,
    /// A question of nothing but white space.
    #[error("the question is empty")]
    EmptyQuestion,
    /// A text of nothing but white space.
    #[error("the text is empty")]
    EmptyText,
}

impl Fault {
    /// The heading under which a dropped row is counted.
    pub fn reason(&self) -> DropReason {
        match self {
            Self::NotUtf8 { .. } => DropReason::NotUtf8,
            Self::TooLarge { .. } => DropReason::TooLarge,
            Self::NotJson { .. } => DropReason::NotJson,
            Self::FieldCount { .. } => DropReason::FieldCount,
            Self::FieldMissing => DropReason::FieldMissing,
            Self::WrongType { .. } | Self::Weight { .. } | Self::LossMarks => DropReason::WrongType,
            Self::UnknownRole { .. } => DropReason::UnknownRole,
            Self::ToolCalls { .. } => DropReason::ToolCalls,
            Self::Media => DropReason::Media,
            Self::Rated => DropReason::Preference,
            Self::NotDecodable { .. } => DropReason::NotDecodable,
            Self::NoAssistantTurn => DropReason::NoAssistantTurn,
            Self::LastTurnNotAssistant { .. } => DropReason::LastTurnNotAssistant,
            Self::NothingToLearn => DropReason::NothingToLearn,
            Self::EmptyAnswer => DropReason::EmptyAnswer,
            Self::EmptyQuestion => DropReason::EmptyQuestion,
            Self::EmptyText => DropReason::EmptyText,
        }
    }
}

/// A row that cannot be used: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}{}: {fault}", path.display(), Field(field))]
pub struct RowError {
    /// The file.
    pub path: PathBuf,
    /// Line, counting from 1: where the row begins, or where in the row the syntax breaks.
    pub line: usize,
    /// Which field (`messages[2].content`); empty where the row as a whole is meant.
    pub field: String,
    /// What is wrong.
    pub fault: Fault,
}

impl RowError {
    /// Field and fault, without file and line.
    pub(super) fn what(&self) -> String {
        let field = if self.field.is_empty() { "" } else { ": " };
        format!("{}{field}{}", self.field, self.fault)
    }
}

/// Shows the field of a [`RowError`], if there is one.
struct Field<'a>(&'a str);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has no rows.
    #[error("{}: nothing is in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The first record has the fields of no format, or the file does not look like any.
    #[error("{}:{line}: not a known format: {}", path.display(), Fields(fields))]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Line, counting from 1.
        line: usize,
        /// The record's fields; empty where there is no record.
        fields: Vec<String>,
    },
    /// A column that the format needs and the CSV file's header does not have.
    #[error("{}:{line}: no column `{column}`", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// Line of the header, counting from 1.
        line: usize,
        /// The column.
        column: String,
    },
    /// A row that cannot be used, where bad rows are not dropped; also a CSV file's header.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Columns of questions and answers, for a format that has none.
    #[error("{}: columns are of the format question-answer, and it is to be read as {format}", path.display())]
    ColumnsOfOtherFormat {
        /// The file.
        path: PathBuf,
        /// The format that was asked for.
        format: super::DataFormat,
    },
    /// A file of another kind, of which somebody else can make one that is read.
    #[error("{}: {kind}, which is not read here: {advice}", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
        /// How to make a file of it that is read.
        advice: &'static str,
    },
    /// A spreadsheet that could not be read.
    #[error("{}: not a spreadsheet that can be read: {reason}", path.display())]
    Spreadsheet {
        /// The file.
        path: PathBuf,
        /// What its reader said.
        reason: String,
    },
    /// A Parquet file that could not be read.
    #[error("{}: not a Parquet file that can be read: {reason}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What its reader said.
        reason: String,
    },
    /// More than half of the rows were dropped, and nobody said that they may be
    /// ([`ReadOptions::allow_dropped`](super::ReadOptions::allow_dropped)).
    #[error("{}: more than half of the rows cannot be used\n{report}", path.display())]
    MostDropped {
        /// The file.
        path: PathBuf,
        /// Why.
        report: Box<DropReport>,
    },
    /// Every row was dropped.
    #[error("{}: no row can be used\n{report}", path.display())]
    NothingLeft {
        /// The file.
        path: PathBuf,
        /// Why.
        report: Box<DropReport>,
    },
}

/// Fields that a message names; of the others it says only that they are.
const FIELDS_NAMED: usize = 8;

/// Shows the fields of a record that fits no format.
struct Fields<'a>(&'a [String]);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("neither records nor text");
        }
        f.write_str("a record of ")?;
        for (index, field) in self.0.iter().take(FIELDS_NAMED).enumerate() {
            write!(f, "{}{}", if index > 0 { ", " } else { "" }, Quoted(field))?;
        }
        if self.0.len() > FIELDS_NAMED { f.write_str(", ...") } else { Ok(()) }
    }
}

/// Characters of a file's text that a message repeats.
const LONGEST_QUOTE: usize = 60;

/// Shows the beginning of a text from a file, without what a terminal would obey.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(LONGEST_QUOTE) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
        }
    }
}
