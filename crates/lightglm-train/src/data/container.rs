//! `Container`: how rows stand in a file, told by its name, or else by its first byte.

use std::path::Path;

use super::format::DataFormat;
use super::options::{ReadOptions, TextUnit};

/// How rows stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// One JSON value a line.
    JsonLines,
    /// The elements of one JSON array.
    JsonArray,
    /// Records of fields between delimiters; the first is the header.
    Csv {
        /// What stands between two fields.
        delimiter: u8,
    },
    /// Lines of text up to a blank one.
    Paragraphs,
    /// The whole file.
    Whole,
}

impl Container {
    /// The container that the extension of `path` tells, where it tells one.
    ///
    /// A `.txt` file is text, unless it is read as a format that is none.
    pub(super) fn of_path(path: &Path, options: &ReadOptions) -> Option<Self> {
        let is_text = matches!(options.format, None | Some(DataFormat::Text));
        match extension(path).as_str() {
            "csv" => Some(Self::Csv { delimiter: b',' }),
            "tsv" => Some(Self::Csv { delimiter: b'\t' }),
            "txt" | "text" | "md" if is_text => Some(Self::of_text(options)),
            _ => None,
        }
    }

    /// The container of a file whose first byte (white space aside) is `first`.
    pub(super) fn of_first_byte(first: u8, path: &Path, options: &ReadOptions) -> Option<Self> {
        match (first, extension(path).as_str()) {
            (b'[', _) => Some(Self::JsonArray),
            // In such a file anything else is a bad first line.
            (b'{', _) | (_, "json" | "jsonl" | "ndjson") => Some(Self::JsonLines),
            _ => (options.format == Some(DataFormat::Text)).then(|| Self::of_text(options)),
        }
    }

    fn of_text(options: &ReadOptions) -> Self {
        match options.text_unit {
            TextUnit::Paragraph => Self::Paragraphs,
            TextUnit::File => Self::Whole,
        }
    }
}

fn extension(path: &Path) -> String {
    let extension = path.extension().unwrap_or_default();
    extension.to_string_lossy().to_ascii_lowercase()
}
