//! `ReadOptions`: how a file is read.

use std::fmt;
use std::str::FromStr;

use super::drop_report::OnBadRow;
use super::encoding::TextEncoding;
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
    /// Whether bad rows may be dropped however many they are. If not, a file of which more than half is
    /// dropped is an error: it is most likely another file than one thinks.
    pub allow_dropped: bool,
    /// The encoding; where it is `None`, the bytes tell.
    pub encoding: Option<TextEncoding>,
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
            allow_dropped: false,
            encoding: None,
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

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "question={},answer={}", self.question, self.answer)
    }
}

impl FromStr for Columns {
    type Err = ColumnsError;

    /// `question=NAME,answer=NAME`, in either order.
    fn from_str(text: &str) -> Result<Self, ColumnsError> {
        let malformed = || ColumnsError { text: text.into() };
        let (mut question, mut answer) = (None, None);
        for part in text.split(',') {
            let (which, name) = part.split_once('=').ok_or_else(malformed)?;
            let place = match which.trim() {
                "question" => &mut question,
                "answer" => &mut answer,
                _ => return Err(malformed()),
            };
            let name = name.trim();
            if name.is_empty() || place.replace(name.to_owned()).is_some() {
                return Err(malformed());
            }
        }
        let (question, answer) = question.zip(answer).ok_or_else(malformed)?;
        Ok(Self { question, answer })
    }
}

/// What names no columns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no columns: question=NAME,answer=NAME")]
pub struct ColumnsError {
    /// What was given.
    pub text: String,
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
