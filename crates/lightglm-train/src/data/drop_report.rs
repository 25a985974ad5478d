//! `DropReport`: which rows were left out, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::format::UnknownName;

/// What to do about a row that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadRow {
    /// Stop and say which.
    #[default]
    Fail,
    /// Leave it out and count it.
    Drop,
}

impl fmt::Display for OnBadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "fail",
            Self::Drop => "drop",
        })
    }
}

impl FromStr for OnBadRow {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        match name {
            "fail" => Ok(Self::Fail),
            "drop" => Ok(Self::Drop),
            _ => Err(UnknownName { name: name.into(), known: vec!["fail", "drop"] }),
        }
    }
}

/// Why a row was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropReason {
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// More bytes than a row may have.
    TooLarge,
    /// Not JSON.
    NotJson,
    /// Not as many fields as the CSV file's header.
    FieldCount,
    /// A field is not there.
    FieldMissing,
    /// A field has another type, or a value that it cannot have.
    WrongType,
    /// A role that nobody knows.
    UnknownRole,
    /// Calls of tools.
    ToolCalls,
    /// Nobody answers.
    NoAssistantTurn,
    /// The conversation ends before the answer.
    LastTurnNotAssistant,
    /// Every answer has weight 0.
    NothingToLearn,
    /// An answer is empty.
    EmptyAnswer,
    /// A question is empty.
    EmptyQuestion,
    /// A text is empty.
    EmptyText,
    /// An earlier row is the same.
    Duplicate,
    /// More tokens than the model is trained on; only who has a tokenizer can tell.
    TooLong,
}

impl DropReason {
    /// A few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not UTF-8",
            Self::TooLarge => "too many bytes",
            Self::NotJson => "not JSON",
            Self::FieldCount => "wrong number of fields",
            Self::FieldMissing => "field missing",
            Self::WrongType => "wrong type",
            Self::UnknownRole => "unknown role",
            Self::ToolCalls => "calls of tools",
            Self::NoAssistantTurn => "no assistant turn",
            Self::LastTurnNotAssistant => "last turn not the assistant's",
            Self::NothingToLearn => "every weight is 0",
            Self::EmptyAnswer => "empty answer",
            Self::EmptyQuestion => "empty question",
            Self::EmptyText => "empty text",
            Self::Duplicate => "duplicate",
            Self::TooLong => "too many tokens",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Lines that are named for each reason; of the others only the number is kept.
const LINES_NAMED: usize = 5;

/// How many rows of a file were left out, for which reasons, and where the first of them stand.
///
/// Its [`Display`](fmt::Display) is a table. What an unclosed quotation in a CSV file swallowed is one
/// row: where the rows after it begin, nobody can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DropReport {
    /// Rows of the file, good and bad; blank lines are none.
    pub rows: usize,
    /// Those left out, by reason.
    pub dropped: BTreeMap<DropReason, Dropped>,
}

/// The rows that were left out for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// How many.
    pub count: usize,
    /// The lines of the first few, counting from 1.
    pub first_lines: Vec<usize>,
}

impl DropReport {
    /// Counts a row on `line` as left out: for those who find a reason after reading, such as
    /// [`DropReason::TooLong`].
    pub fn drop(&mut self, line: usize, reason: DropReason) {
        let dropped = self.dropped.entry(reason).or_default();
        dropped.count += 1;
        if dropped.first_lines.len() < LINES_NAMED {
            dropped.first_lines.push(line);
        }
    }

    /// Rows left out.
    pub fn total_dropped(&self) -> usize {
        self.dropped.values().map(|dropped| dropped.count).sum()
    }

    /// Rows kept.
    pub fn kept(&self) -> usize {
        self.rows.saturating_sub(self.total_dropped())
    }

    /// Rows left out for `reason`.
    pub fn count(&self, reason: DropReason) -> usize {
        self.dropped.get(&reason).map_or(0, |dropped| dropped.count)
    }
}

impl fmt::Display for DropReport {
    /// One row a reason, the kept ones last; no line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9}  {:<30} lines", "rows", "reason")?;
        for (reason, dropped) in &self.dropped {
            let lines: Vec<String> = dropped.first_lines.iter().map(usize::to_string).collect();
            let more = if dropped.count > lines.len() { ", ..." } else { "" };
            writeln!(f, "{:>9}  {reason:<30} {}{more}", dropped.count, lines.join(", "))?;
        }
        write!(f, "{:>9}  kept of {}", self.kept(), self.rows)
    }
}
