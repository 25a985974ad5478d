//! `ExampleReader`, `read_examples`: files in, examples out.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::bytes::Bytes;
use super::container::Container;
use super::conversions::{example_of, text_of};
use super::drop_report::{DropReason, DropReport, OnBadRow};
use super::example::Example;
use super::fault::{DataError, RowError};
use super::format::{DataFormat, pair_of};
use super::options::ReadOptions;
use super::record::{Header, Located, parse_json, utf8};
use super::rows::{Row, Rows};

/// The examples of a file, its format, and what was left out.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleSet {
    /// The examples, in the file's order.
    pub examples: Vec<Example>,
    /// The format that was named or found out.
    pub format: DataFormat,
    /// What was left out.
    pub report: DropReport,
}

/// Reads a file of examples.
///
/// # Errors
/// [`DataError`]: with file, line and field where a row is bad and bad rows are not dropped.
pub fn read_examples(
    path: impl AsRef<Path>,
    options: &ReadOptions,
) -> Result<ExampleSet, DataError> {
    let path = path.as_ref();
    let mut reader = ExampleReader::open(path, options.clone())?;
    let examples = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    let path = || path.to_owned();
    match reader.format() {
        _ if reader.report.rows == 0 => Err(DataError::Empty { path: path() }),
        Some(format) if !examples.is_empty() => {
            Ok(ExampleSet { examples, format, report: reader.into_report() })
        }
        _ => Err(DataError::NothingLeft { path: path(), report: reader.into_report() }),
    }
}

/// The examples of a file, one at a time: a row is held in memory, never the file.
///
/// It ends after the first error. With [`ReadOptions::deduplicate`] a hash of 16 bytes stays for
/// each example.
pub struct ExampleReader<R> {
    rows: Rows<R>,
    path: PathBuf,
    options: ReadOptions,
    container: Container,
    header: Option<Header>,
    format: Option<DataFormat>,
    /// What the examples until now hash to, where duplicates are looked for.
    seen: HashSet<u128>,
    report: DropReport,
    failed: bool,
}

impl ExampleReader<BufReader<File>> {
    /// Opens a file; a CSV file's header is read as well.
    ///
    /// # Errors
    /// Those of [`ExampleReader::new`], and [`DataError::Read`] where it cannot be opened.
    pub fn open(path: &Path, options: ReadOptions) -> Result<Self, DataError> {
        let file =
            File::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        Self::new(BufReader::with_capacity(64 << 10, file), path, options)
    }
}

impl<R: BufRead> ExampleReader<R> {
    /// Reads from `input`; `path` is for messages, and its extension says how rows stand in it.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Empty`], [`DataError::UnknownFormat`]; for CSV also
    /// [`DataError::Row`] where the header is not text, and [`DataError::MissingColumn`].
    pub fn new(input: R, path: &Path, mut options: ReadOptions) -> Result<Self, DataError> {
        if options.format.is_none() && options.columns.is_some() {
            options.format = Some(DataFormat::QuestionAnswer);
        }
        let failed = |source| DataError::Read { path: path.to_owned(), source };
        let mut bytes = Bytes::new(input).map_err(failed)?;
        let container = match Container::of_path(path, &options) {
            Some(container) => container,
            None => {
                let Some(first) = bytes.skip_blanks().map_err(failed)? else {
                    return Err(DataError::Empty { path: path.to_owned() });
                };
                Container::of_first_byte(first, path, &options).ok_or_else(|| {
                    let (path, line) = (path.to_owned(), bytes.line());
                    DataError::UnknownFormat { path, line, fields: Vec::new() }
                })?
            }
        };
        let mut reader = Self {
            rows: Rows::new(bytes, container, options.max_row_bytes),
            path: path.to_owned(),
            format: options.format,
            options,
            container,
            header: None,
            seen: HashSet::new(),
            report: DropReport::default(),
            failed: false,
        };
        match container {
            Container::Csv { delimiter } => reader.read_header(delimiter)?,
            Container::Paragraphs | Container::Whole => reader.format = Some(DataFormat::Text),
            Container::JsonLines | Container::JsonArray => {}
        }
        Ok(reader)
    }

    /// The format; `None` until the first record has told it.
    pub fn format(&self) -> Option<DataFormat> {
        self.format
    }

    /// What was left out until now.
    pub fn report(&self) -> &DropReport {
        &self.report
    }

    /// What was left out.
    pub fn into_report(self) -> DropReport {
        self.report
    }

    fn read_header(&mut self, delimiter: u8) -> Result<(), DataError> {
        let row = self.next_row()?.ok_or_else(|| DataError::Empty { path: self.path.clone() })?;
        let line = row.line;
        let header = row.bytes.map_err(Located::row);
        let header = header.and_then(|bytes| Header::parse(&bytes, delimiter));
        let header = header.map_err(|located| self.row_error(line, located))?;
        let format = self.format.or_else(|| DataFormat::of_fields(|name| header.has(name)));
        let format = format.ok_or_else(|| self.unknown_format(line, header.columns.clone()))?;
        if let Some(column) = missing_column(&header, format, &self.options) {
            return Err(DataError::MissingColumn { path: self.path.clone(), line, column });
        }
        (self.header, self.format) = (Some(header), Some(format));
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        let failed = |source: io::Error| DataError::Read { path: self.path.clone(), source };
        self.rows.next().map_err(failed)
    }

    /// The next example that is neither dropped nor an error.
    fn next_example(&mut self) -> Result<Option<Example>, DataError> {
        while let Some(row) = self.next_row()? {
            self.report.rows += 1;
            let line = row.line;
            match self.example(row)? {
                Ok(example) if self.is_duplicate(&example) => {
                    self.report.drop(line, DropReason::Duplicate);
                }
                Ok(example) => return Ok(Some(example)),
                Err(located) if self.options.on_bad_row == OnBadRow::Drop => {
                    self.report.drop(line + located.lines_down, located.fault.reason());
                }
                Err(located) => return Err(self.row_error(line, located).into()),
            }
        }
        Ok(None)
    }

    /// A row as an example, or what is wrong with the row; the error is one of the file's.
    fn example(&mut self, row: Row) -> Result<Result<Example, Located>, DataError> {
        let Row { line, bytes, cut } = row;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(fault) => return Ok(Err(Located::row(fault))),
        };
        let fields = match (self.container, &self.header) {
            (Container::Paragraphs | Container::Whole, _) => {
                return Ok(utf8(&bytes).and_then(|text| text_of(text.to_owned(), line)));
            }
            (_, Some(header)) => header.record(&bytes, cut),
            (_, None) => parse_json(&bytes),
        };
        match fields {
            Ok(fields) => {
                let format = self.format_of(&fields, line)?;
                Ok(example_of(fields, format, &self.options, line))
            }
            Err(located) => Ok(Err(located)),
        }
    }

    fn format_of(
        &mut self,
        fields: &Map<String, Value>,
        line: usize,
    ) -> Result<DataFormat, DataError> {
        let found = self.format.or_else(|| DataFormat::of_fields(|name| fields.contains_key(name)));
        self.format = found;
        found.ok_or_else(|| self.unknown_format(line, fields.keys().cloned().collect()))
    }

    fn is_duplicate(&mut self, example: &Example) -> bool {
        self.options.deduplicate && !self.seen.insert(content_hash(example))
    }

    fn row_error(&self, line: usize, located: Located) -> RowError {
        let Located { field, lines_down, fault } = located;
        RowError { path: self.path.clone(), line: line + lines_down, field, fault }
    }

    fn unknown_format(&self, line: usize, fields: Vec<String>) -> DataError {
        DataError::UnknownFormat { path: self.path.clone(), line, fields }
    }
}

impl<R: BufRead> Iterator for ExampleReader<R> {
    type Item = Result<Example, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_example();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// A column that records of `format` need and the header does not have.
fn missing_column(header: &Header, format: DataFormat, options: &ReadOptions) -> Option<String> {
    let needed: Vec<&str> = match (format, &options.columns) {
        (DataFormat::QuestionAnswer, Some(columns)) => vec![&columns.question, &columns.answer],
        (DataFormat::QuestionAnswer, None) if pair_of(|name| header.has(name)).is_some() => vec![],
        _ => format.required_fields().to_vec(),
    };
    needed.into_iter().find(|name| !header.has(name)).map(String::from)
}

/// 128 bits of what an example says: a billion rows have a chance of about 10^-21 that two
/// different ones are taken for the same.
fn content_hash(example: &Example) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        match example {
            Example::Conversation(conversation) => {
                for turn in &conversation.turns {
                    (turn.role, &turn.content, turn.learn).hash(&mut hasher);
                }
            }
            Example::Text(text) => text.text.hash(&mut hasher),
        }
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}
