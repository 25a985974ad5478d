//! `Container`: how rows stand in a file, told by its name and its beginning.

use std::fmt;
use std::path::Path;

use super::csv_record::fields;
use super::format::DataFormat;
use super::json_layout::{JsonLayout, layout_of};
use super::names::known_columns;
use super::options::{ReadOptions, TextUnit};
use super::record::parse_json;

/// How rows stand in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// One JSON value a line.
    JsonLines,
    /// JSON values that go on over lines, one behind the other.
    JsonValues,
    /// The elements of one JSON array, or the fields of one object.
    JsonList(JsonList),
    /// One JSON object of lists that are columns.
    JsonColumns,
    /// Records of fields between delimiters; the first is the header.
    Csv {
        /// What stands between two fields.
        delimiter: u8,
        /// Whether a line in front of the header says so, as Excel writes it.
        is_told: bool,
    },
    /// Lines of text up to a blank one.
    Paragraphs,
    /// The whole file.
    Whole,
}

/// Rows between a pair of brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonList {
    /// Bytes up to and with the bracket that opens it.
    pub(super) skip: usize,
    /// The bracket that closes it.
    pub(super) close: u8,
    /// The field of the file's object that it stands in, if it does.
    pub(super) within: Option<String>,
    /// Other fields of the object in front of it.
    pub(super) before: Vec<String>,
}

/// Separators of tables, the likeliest first.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

impl Container {
    /// The container of a file called `path` that begins with `head`; `None` where it looks like none.
    ///
    /// A `.txt` file is text, unless it begins with a row or a header that says otherwise, or is read as
    /// a format that is no text.
    pub(super) fn of(path: &Path, head: &[u8], options: &ReadOptions) -> Option<Self> {
        let extension = extension(path);
        let head = head.trim_ascii_start();
        let is_text = matches!(options.format, None | Some(DataFormat::Text));
        match extension.as_str() {
            "csv" => return Some(Self::table(head, options).unwrap_or(Self::csv(b','))),
            "tsv" | "tab" => return Some(Self::table(head, options).unwrap_or(Self::csv(b'\t'))),
            "txt" | "text" | "md" if is_text => {
                let rows = options.format.is_none().then(|| Self::rows_in_text(head, options));
                return Some(rows.flatten().unwrap_or_else(|| Self::of_text(options)));
            }
            _ => {}
        }
        match head.first()? {
            b'[' => Some(Self::JsonList(JsonList::whole(0))),
            b'{' => Some(match layout_of(head, options.columns.as_ref()) {
                JsonLayout::Lines => Self::JsonLines,
                JsonLayout::Values => Self::JsonValues,
                JsonLayout::List(list) => Self::JsonList(list),
                JsonLayout::Columns => Self::JsonColumns,
            }),
            // In such a file anything else is a bad first line.
            _ if ["json", "jsonl", "ndjson"].contains(&extension.as_str()) => Some(Self::JsonLines),
            _ if options.format == Some(DataFormat::Text) => Some(Self::of_text(options)),
            _ => Self::known_table(head, options),
        }
    }

    fn csv(delimiter: u8) -> Self {
        Self::Csv { delimiter, is_told: false }
    }

    fn of_text(options: &ReadOptions) -> Self {
        match options.text_unit {
            TextUnit::Paragraph => Self::Paragraphs,
            TextUnit::File => Self::Whole,
        }
    }

    /// Rows in a file that is called a text: JSON lines, or a table such as Excel's "Unicode text".
    fn rows_in_text(head: &[u8], options: &ReadOptions) -> Option<Self> {
        let first = head.split(|byte| *byte == b'\n').next()?;
        if first.starts_with(b"{") && parse_json(first).is_ok() {
            return Some(Self::JsonLines);
        }
        Self::known_table(head, options)
    }

    /// The table with the separator that its `sep=` line tells; else the one that makes a format's
    /// fields of the header, or else the most fields.
    fn table(head: &[u8], options: &ReadOptions) -> Option<Self> {
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = String::from_utf8_lossy(lines.next()?);
        let told = first.trim_end_matches('\r').trim_matches('"');
        if let Some(sep) = told.get(..4).filter(|sep| sep.eq_ignore_ascii_case("sep="))
            && let [delimiter] = &told.as_bytes()[sep.len()..]
            && delimiter.is_ascii()
        {
            return Some(Self::Csv { delimiter: *delimiter, is_told: true });
        }
        Self::known_table(head, options).or_else(|| {
            let count = |delimiter: &u8| fields(&first, *delimiter).len();
            // Of equals the first: `max_by_key` would take the last.
            let most = DELIMITERS.into_iter().rev().max_by_key(count)?;
            (count(&most) > 1).then_some(Self::csv(most))
        })
    }

    /// The table whose header has the fields of a format other than text.
    fn known_table(head: &[u8], options: &ReadOptions) -> Option<Self> {
        // A header may have quoted line ends; such a one is none of those known here.
        let first = head.split(|byte| *byte == b'\n').next()?;
        let first = std::str::from_utf8(first).ok()?.trim_end_matches('\r');
        let is_known = |delimiter: &u8| {
            let columns = fields(first, *delimiter);
            let columns: Vec<String> = columns.iter().map(|name| name.trim().to_owned()).collect();
            let has = |name: &str| columns.iter().any(|column| column == name);
            if let Some(named) = &options.columns {
                return has(&named.question) && has(&named.answer);
            }
            let columns = known_columns(&columns);
            let has = |name: &str| columns.iter().any(|column| column == name);
            match options.format {
                Some(format) => columns.len() > 1 && format.missing_field(has).is_none(),
                None => DataFormat::whole(has).is_some(),
            }
        };
        DELIMITERS.into_iter().find(is_known).map(Self::csv)
    }
}

impl JsonList {
    /// A list that is the whole file but for `skip` bytes in front of it.
    fn whole(skip: usize) -> Self {
        Self { skip: skip + 1, close: b']', within: None, before: Vec::new() }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JsonLines => f.write_str("JSON lines"),
            Self::JsonValues => f.write_str("JSON, one object after the other"),
            Self::JsonList(JsonList { within: Some(name), .. }) => {
                write!(f, "JSON, the rows in {name:?}")
            }
            Self::JsonList(JsonList { close: b'}', .. }) => f.write_str("JSON, an object of rows"),
            Self::JsonList(_) => f.write_str("JSON, a list of rows"),
            Self::JsonColumns => f.write_str("JSON, an object of columns"),
            Self::Csv { delimiter: b'\t', .. } => f.write_str("a table with tabs"),
            Self::Csv { delimiter, .. } => write!(f, "a table with {:?}", char::from(*delimiter)),
            Self::Paragraphs => f.write_str("text by paragraphs"),
            Self::Whole => f.write_str("text"),
        }
    }
}

/// The last extension of a name in small letters, that of compression aside.
pub(super) fn extension(path: &Path) -> String {
    let of = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match of(path) {
        gz if gz == "gz" => of(Path::new(path.file_stem().unwrap_or_default())),
        other => other,
    }
}
