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
    /// Bytes that are none of the file's encoding.
    NotDecodable,
    /// Calls of tools that cannot be read, or that the model's chat template does not write.
    ToolCalls,
    /// Images, sounds or films.
    Media,
    /// A preference between answers, where answers are learnt.
    Preference,
    /// The chat template does not write what is to be learnt: reasoning, say.
    NotWritten,
    /// The chat template writes an answer so that its tokens cannot be told from the others.
    Rewritten,
    /// The chat template or the tokenizer refuses it.
    Refused,
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
            Self::NotDecodable => "not in the file's encoding",
            Self::ToolCalls => "calls of tools",
            Self::Media => "images, audio or video",
            Self::Preference => "preference between answers",
            Self::NotWritten => "not written by the template",
            Self::Rewritten => "written anew by the template",
            Self::Refused => "refused by the template",
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

/// Fields without effect that are named; further ones are counted together.
const FIELDS_NAMED: usize = 64;

/// What the further ones are called.
const OTHER_FIELDS: &str = "(others)";

/// How many rows of a file were left out, for which reasons, and where the first of them stand; how the
/// file was read, and which fields of its rows were not used.
///
/// Its [`Display`](fmt::Display) is a table. Of what an unclosed quotation in a CSV file swallowed each line
/// counts as a row: where rows begin in it, nobody can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DropReport {
    /// Rows of the file, good and bad; blank lines are none.
    pub rows: usize,
    /// Those left out, by reason.
    pub dropped: BTreeMap<DropReason, Dropped>,
    /// Fields that have no effect on what is learnt, and the rows that have them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unused: BTreeMap<String, Dropped>,
    /// How each file was read: encoding, layout and format.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Files of a folder that are no rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
}

/// The rows that were left out for one reason, or that have one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// How many.
    pub count: usize,
    /// The lines of the first few, counting from 1; none where they are of several files.
    pub first_lines: Vec<usize>,
    /// What is wrong with the first: field and fault. Empty where the reason says it all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub first: String,
}

impl Dropped {
    fn add(&mut self, line: usize) {
        self.count += 1;
        if self.first_lines.len() < LINES_NAMED {
            self.first_lines.push(line);
        }
    }

    fn join(&mut self, other: Self, file: &str) {
        if self.count == 0 && !other.first.is_empty() {
            self.first = format!("{file}: {}", other.first);
        }
        self.count += other.count;
    }

    /// The lines, and what is wrong with the first.
    fn lines(&self) -> String {
        let lines: Vec<String> = self.first_lines.iter().map(usize::to_string).collect();
        let more = if self.count > lines.len() && !lines.is_empty() { ", ..." } else { "" };
        let first =
            if self.first.is_empty() { String::new() } else { format!("  ({})", self.first) };
        format!("{}{more}{first}", lines.join(", "))
    }
}

impl DropReport {
    /// Counts a row on `line` as left out: for those who find a reason after reading, such as
    /// [`DropReason::TooLong`].
    pub fn drop(&mut self, line: usize, reason: DropReason) {
        self.dropped.entry(reason).or_default().add(line);
    }

    /// As [`drop`](Self::drop); `what` is wrong with it.
    pub fn drop_for(&mut self, line: usize, reason: DropReason, what: impl fmt::Display) {
        let dropped = self.dropped.entry(reason).or_default();
        if dropped.count == 0 {
            dropped.first = what.to_string();
        }
        dropped.add(line);
    }

    /// Counts `lines` more as left out that a bad row took with it.
    pub(super) fn swallow(&mut self, lines: usize, reason: DropReason) {
        if lines > 0 {
            self.rows += lines;
            self.dropped.entry(reason).or_default().count += lines;
        }
    }

    /// Counts a row on `line` as one whose `field` has no effect.
    pub fn leave_unused(&mut self, line: usize, field: &str) {
        // Names that the file makes up for each row are not kept without end.
        let is_named = self.unused.contains_key(field) || self.unused.len() < FIELDS_NAMED;
        let name = if is_named { field } else { OTHER_FIELDS };
        self.unused.entry(name.to_owned()).or_default().add(line);
    }

    /// Notes a part of the file that is no row and has no effect.
    pub(super) fn leave_field_unused(&mut self, part: &str) {
        self.unused.entry(part.into()).or_default().count += 1;
    }

    /// Adds the report of another file, called `file`.
    pub(super) fn join(&mut self, other: Self, file: &str) {
        self.rows += other.rows;
        for (reason, dropped) in other.dropped {
            self.dropped.entry(reason).or_default().join(dropped, file);
        }
        for (field, unused) in other.unused {
            self.unused.entry(field).or_default().join(unused, file);
        }
        self.files.extend(other.files);
        self.passed_over.extend(other.passed_over);
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

    /// Whether more than half of the rows were left out, duplicates aside: they were asked for.
    pub fn is_mostly_dropped(&self) -> bool {
        let duplicates = self.count(DropReason::Duplicate);
        2 * (self.total_dropped() - duplicates) > self.rows.saturating_sub(duplicates)
    }
}

impl fmt::Display for DropReport {
    /// How files were read, one row a reason, one a field without effect, the kept rows last; no line
    /// break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{file}")?;
        }
        for file in &self.passed_over {
            writeln!(f, "{file}: passed over")?;
        }
        if !self.dropped.is_empty() {
            writeln!(f, "{:>9}  {:<30} lines", "rows", "reason")?;
        }
        for (reason, dropped) in &self.dropped {
            writeln!(f, "{:>9}  {reason:<30} {}", dropped.count, dropped.lines())?;
        }
        if !self.unused.is_empty() {
            writeln!(f, "{:>9}  {:<30} lines", "rows", "field without effect")?;
        }
        for (field, unused) in &self.unused {
            let field: String = field.chars().flat_map(char::escape_debug).take(60).collect();
            writeln!(f, "{:>9}  {field:<30} {}", unused.count, unused.lines())?;
        }
        write!(f, "{:>9}  kept of {}", self.kept(), self.rows)
    }
}
