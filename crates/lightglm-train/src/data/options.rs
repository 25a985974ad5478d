//! `ReadOptions`: how a file is read.

use std::fmt;
use std::str::FromStr;

use super::drop_report::OnBadRow;
use super::format::{DataFormat, UnknownName};

/// Most bytes of a row, where nothing else is said: 16 MiB.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// How a file is read. The default finds the format out, stops at the first bad row and keeps
/// duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The format; where it is `None`, the fields of the first JSON record or of the CSV header
    /// tell, or the extension `.txt`.
    pub format: Option<DataFormat>,
    /// What to do about bad rows.
    pub on_bad_row: OnBadRow,
    /// Leave out a row whose turns (or whose text) are those of an earlier one. Such a row is
    /// dropped and reported even where bad rows fail: it was asked for.
    pub deduplicate: bool,
    /// Names of the question's and the answer's field: makes the format
    /// [`DataFormat::QuestionAnswer`] where none is given.
    pub columns: Option<Columns>,
    /// A system turn for the conversations that have none.
    pub system: Option<String>,
    /// What is one example in a `.txt` file.
    pub text_unit: TextUnit,
    /// Most bytes of a row (a line, a CSV record, an element of a JSON array, a paragraph): a
    /// longer one is a bad row, and is never held in memory.
    pub max_row_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: None,
            on_bad_row: OnBadRow::default(),
            deduplicate: false,
            columns: None,
            system: None,
            text_unit: TextUnit::default(),
            max_row_bytes: MAX_ROW_BYTES,
        }
    }
}

/// The fields (in CSV, the columns) that hold a question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The question's.
    pub question: String,
    /// The answer's.
    pub answer: String,
}

/// What is one example in a `.txt` file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextUnit {
    /// A paragraph: lines up to a blank one. Memory stays bounded, and no example crosses from one
    /// subject to the next.
    #[default]
    Paragraph,
    /// The whole file, up to [`ReadOptions::max_row_bytes`]; who has the tokenizer cuts it into
    /// windows.
    File,
}

impl fmt::Display for TextUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paragraph => "paragraph",
            Self::File => "file",
        })
    }
}

impl FromStr for TextUnit {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        match name {
            "paragraph" => Ok(Self::Paragraph),
            "file" => Ok(Self::File),
            _ => Err(UnknownName { name: name.into(), known: vec!["paragraph", "file"] }),
        }
    }
}
