//! `ExampleReader`: a file or stream in, examples out, one at a time.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::bytes::Bytes;
use super::container::Container;
use super::conversions::{Converted, example_of, text_of};
use super::decoded::Decoded;
use super::drop_report::{DropReason, DropReport, OnBadRow};
use super::encoding::TextEncoding;
use super::example::{Example, Turn};
use super::fault::{DataError, Fault, RowError};
use super::format::DataFormat;
use super::json_columns::records_of_columns;
use super::names::known_columns;
use super::options::ReadOptions;
use super::record::{Header, Located, parse_json, utf8};
use super::rows::{Row, Rows};
use super::source::Source;

/// The examples of a file, one at a time: a row is held in memory, never the file.
///
/// It ends after the first error. With [`ReadOptions::deduplicate`] a hash of 16 bytes stays for
/// each example.
pub struct ExampleReader<R> {
    rows: Rows<Decoded<R>>,
    path: PathBuf,
    options: ReadOptions,
    container: Container,
    encoding: TextEncoding,
    header: Option<Header>,
    format: Option<DataFormat>,
    /// Rows that were read at once: those of columns.
    ready: VecDeque<(usize, Map<String, Value>)>,
    /// What the examples until now hash to, where duplicates are looked for.
    seen: HashSet<u128>,
    report: DropReport,
    ended: bool,
}

impl ExampleReader<Box<dyn Read + Send>> {
    /// Opens a file, plain or gzipped; a CSV file's header is read as well. With the feature
    /// `spreadsheets` it may be one of Excel's: its first sheet that is not empty is read.
    ///
    /// # Errors
    /// Those of [`ExampleReader::new`], and [`DataError::Read`] where it cannot be opened,
    /// [`DataError::OtherKind`] and [`DataError::Spreadsheet`] where it is no text.
    pub fn open(path: &Path, mut options: ReadOptions) -> Result<Self, DataError> {
        let source = Source::open(path, options.encoding)?;
        options.encoding = source.encoding;
        let mut reader = Self::new(source.bytes, path, options)?;
        for part in source.unused {
            reader.report.leave_field_unused(&part);
        }
        Ok(reader)
    }
}

impl<R: Read> ExampleReader<R> {
    /// Reads from `input`; `path` is for messages, and its extension and the stream's first 64 KiB say how
    /// rows stand in it and in which encoding, where [`ReadOptions::encoding`] does not.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Empty`], [`DataError::UnknownFormat`],
    /// [`DataError::ColumnsOfOtherFormat`]; for CSV also
    /// [`DataError::Row`] where the header is not text, and [`DataError::MissingColumn`].
    pub fn new(input: R, path: &Path, mut options: ReadOptions) -> Result<Self, DataError> {
        if options.columns.is_some() {
            let format = *options.format.get_or_insert(DataFormat::QuestionAnswer);
            if format != DataFormat::QuestionAnswer {
                return Err(DataError::ColumnsOfOtherFormat { path: path.to_owned(), format });
            }
        }
        let failed = |source| DataError::Read { path: path.to_owned(), source };
        let input = Decoded::new(input, options.encoding).map_err(failed)?;
        let encoding = input.encoding();
        let container = match Container::of(path, input.head(), &options) {
            Some(container) => container,
            None if input.head().trim_ascii().is_empty() => {
                return Err(DataError::Empty { path: path.to_owned() });
            }
            None => {
                let head = input.head();
                let blank = &head[..head.len() - head.trim_ascii_start().len()];
                let line = blank.iter().filter(|byte| **byte == b'\n').count() + 1;
                let path = path.to_owned();
                return Err(DataError::UnknownFormat { path, line, fields: Vec::new() });
            }
        };
        let bytes = Bytes::new(input).map_err(failed)?;
        let mut reader = Self {
            rows: Rows::new(bytes, container.clone(), options.max_row_bytes),
            path: path.to_owned(),
            format: options.format,
            options,
            container,
            encoding,
            header: None,
            ready: VecDeque::new(),
            seen: HashSet::new(),
            report: DropReport::default(),
            ended: false,
        };
        match reader.container {
            Container::Csv { delimiter, .. } => reader.read_header(delimiter)?,
            Container::Paragraphs | Container::Whole => reader.format = Some(DataFormat::Text),
            _ => {}
        }
        Ok(reader)
    }

    /// The format, that of the first record where there are several; `None` until it has told it.
    pub fn format(&self) -> Option<DataFormat> {
        self.format
    }

    /// The encoding that the file is read in.
    pub fn encoding(&self) -> TextEncoding {
        self.encoding
    }

    /// What was left out until now.
    pub fn report(&self) -> &DropReport {
        &self.report
    }

    /// What was left out, and how the file was read.
    pub fn into_report(mut self) -> DropReport {
        self.tell_how_it_was_read();
        self.report
    }

    fn tell_how_it_was_read(&mut self) {
        if self.report.files.is_empty() {
            let format = self.format.map_or_else(String::new, |format| format!(", {format}"));
            let (path, container, encoding) = (self.path.display(), &self.container, self.encoding);
            self.report.files.push(format!("{path}: {encoding}, {container}{format}"));
        }
    }

    fn read_header(&mut self, delimiter: u8) -> Result<(), DataError> {
        let row = self.next_row()?.ok_or_else(|| DataError::Empty { path: self.path.clone() })?;
        let line = row.line;
        let header = row.bytes.map_err(Located::row);
        let header = header.and_then(|bytes| Header::parse(&bytes, delimiter));
        let header = header.map_err(|located| self.row_error(line, located))?;
        let known = known_columns(&header.columns);
        let has = |name: &str| known.iter().any(|column| column == name);
        let format = self.format.or_else(|| DataFormat::of_fields(has));
        let format = format.ok_or_else(|| self.unknown_format(line, header.columns.clone()))?;
        let missing = match &self.options.columns {
            Some(columns) if format == DataFormat::QuestionAnswer => {
                [&columns.question, &columns.answer]
                    .into_iter()
                    .find(|name| !header.columns.contains(name))
                    .cloned()
            }
            _ => format.missing_field(has).map(str::to_owned),
        };
        if let Some(column) = missing {
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
        loop {
            let (line, swallowed, read) = if let Some((line, fields)) = self.ready.pop_front() {
                self.report.rows += 1;
                (line, 0, self.converted(fields, line)?)
            } else if let Some(row) = self.next_row()? {
                if self.container == Container::JsonColumns && self.read_columns(&row) {
                    continue;
                }
                self.report.rows += 1;
                (row.line, row.swallowed, self.example(row)?)
            } else {
                return self.end().map(|()| None);
            };
            match read {
                Ok(Converted { example, .. }) if self.is_duplicate(&example) => {
                    self.report.drop(line, DropReason::Duplicate);
                }
                Ok(Converted { example, unused }) => {
                    for field in &unused {
                        self.report.leave_unused(line, field);
                    }
                    return Ok(Some(example));
                }
                Err(located) if self.options.on_bad_row == OnBadRow::Drop => {
                    let error = self.row_error(line, located);
                    let reason = error.fault.reason();
                    self.report.drop_for(error.line, reason, error.what());
                    self.report.swallow(swallowed, reason);
                }
                Err(located) => return Err(self.row_error(line, located).into()),
            }
        }
    }

    /// What there is to say once all rows are read.
    fn end(&mut self) -> Result<(), DataError> {
        for field in self.rows.take_others() {
            self.report.leave_field_unused(&field);
        }
        self.tell_how_it_was_read();
        let is_allowed = self.options.allow_dropped || !self.report.is_mostly_dropped();
        if is_allowed {
            return Ok(());
        }
        let (path, report) = (self.path.clone(), Box::new(self.report.clone()));
        Err(match report.kept() {
            0 => DataError::NothingLeft { path, report },
            _ => DataError::MostDropped { path, report },
        })
    }

    /// Makes rows of a file of columns; false where it is none, and a bad row.
    fn read_columns(&mut self, row: &Row) -> bool {
        let Ok(bytes) = &row.bytes else { return false };
        let Ok((records, others)) = parse_json(bytes).and_then(records_of_columns) else {
            return false;
        };
        self.ready = records.into_iter().enumerate().map(|(index, row)| (index + 1, row)).collect();
        others.iter().for_each(|field| self.report.leave_field_unused(field));
        true
    }

    /// A row as an example, or what is wrong with the row; the error is one of the file's.
    fn example(&mut self, row: Row) -> Result<Result<Converted, Located>, DataError> {
        let Row { line, bytes, cut, .. } = row;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(fault) => return Ok(Err(Located::row(fault))),
        };
        let fields = match (&self.container, &self.header) {
            (Container::Paragraphs | Container::Whole, _) => {
                let example = utf8(&bytes).and_then(|text| text_of(text.to_owned(), line));
                return Ok(example.map(|example| Converted { example, unused: Vec::new() }));
            }
            (Container::JsonColumns, _) => {
                parse_json(&bytes).and_then(|fields| records_of_columns(fields).map(|_| Map::new()))
            }
            (_, Some(header)) => header.record(&bytes, cut),
            (_, None) => parse_json(&bytes),
        };
        match fields {
            Ok(fields) => self.converted(fields, line),
            Err(located) => Ok(Err(located)),
        }
    }

    fn converted(
        &mut self,
        fields: Map<String, Value>,
        line: usize,
    ) -> Result<Result<Converted, Located>, DataError> {
        let format = self.format_of(&fields, line)?;
        Ok(example_of(fields, format, &self.options, line))
    }

    /// The format of a record: the one that was asked for or that the header tells; else the one of which
    /// it has all fields, or else that of the records before.
    fn format_of(
        &mut self,
        fields: &Map<String, Value>,
        line: usize,
    ) -> Result<DataFormat, DataError> {
        if let Some(format) = self.format
            && (self.options.format.is_some() || self.header.is_some())
        {
            return Ok(format);
        }
        let names: Vec<String> = fields.keys().cloned().collect();
        let known = known_columns(&names);
        let has = |name: &str| known.iter().any(|field| field == name);
        let found = DataFormat::whole(has).or(self.format).or_else(|| DataFormat::of_fields(has));
        self.format = self.format.or(found);
        found.ok_or_else(|| self.unknown_format(line, names))
    }

    fn is_duplicate(&mut self, example: &Example) -> bool {
        self.options.deduplicate && !self.seen.insert(content_hash(example))
    }

    fn row_error(&self, line: usize, located: Located) -> RowError {
        let Located { field, lines_down, mut fault } = located;
        if matches!(fault, Fault::NotUtf8 { .. }) && !self.encoding.is_utf8() {
            fault = Fault::NotDecodable { encoding: self.encoding.name() };
        }
        RowError { path: self.path.clone(), line: line + lines_down, field, fault }
    }

    fn unknown_format(&self, line: usize, fields: Vec<String>) -> DataError {
        DataError::UnknownFormat { path: self.path.clone(), line, fields }
    }
}

impl<R: Read> Iterator for ExampleReader<R> {
    type Item = Result<Example, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_example();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

/// 128 bits of what an example says: a billion rows have a chance of about 10^-21 that two
/// different ones are taken for the same.
fn content_hash(example: &Example) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        match example {
            Example::Conversation(conversation) => {
                hash_turns(&conversation.turns, &mut hasher);
                conversation.extra.get("tools").hash(&mut hasher);
            }
            Example::Text(text) => text.text.hash(&mut hasher),
            Example::Preference(preference) => {
                for turns in [&preference.prompt, &preference.chosen, &preference.rejected] {
                    hash_turns(turns, &mut hasher);
                }
            }
        }
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}

fn hash_turns(turns: &[Turn], hasher: &mut DefaultHasher) {
    turns.len().hash(hasher);
    for turn in turns {
        (turn.role, &turn.content, turn.learn).hash(hasher);
        for field in &turn.extra {
            field.hash(hasher);
        }
    }
}
