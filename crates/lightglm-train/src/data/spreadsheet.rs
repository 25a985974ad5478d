//! Excel's and OpenDocument's tables, as JSON lines of which line `n` is the sheet's row `n`.

use std::io::{Cursor, Read};
use std::path::Path;

use calamine::{Data, Range, Reader, open_workbook_auto_from_rs};
use serde_json::{Map, Value};

use super::encoding::TextEncoding;
use super::fault::DataError;
use super::source::Source;

/// Whether a file that begins with `head` may be one: a zip file (xlsx, xlsb, ods) or a compound file
/// (xls).
pub(super) fn is_one(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"\xd0\xcf\x11\xe0")
}

/// The rows of the first sheet that has any; the first of them is the header.
pub(super) fn open(path: &Path) -> Result<Source, DataError> {
    let refused = |reason: String| DataError::Spreadsheet { path: path.to_owned(), reason };
    let bytes =
        std::fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let mut book = open_workbook_auto_from_rs(Cursor::new(bytes))
        .map_err(|error| refused(error.to_string()))?;
    let (mut lines, mut unused) = (None, Vec::new());
    for name in book.sheet_names() {
        let sheet = book.worksheet_range(&name).map_err(|error| refused(error.to_string()))?;
        if sheet.is_empty() {
            continue;
        }
        match lines {
            None => lines = Some(json_lines(&sheet)),
            Some(_) => unused.push(format!("(sheet {name})")),
        }
    }
    let lines = lines.ok_or_else(|| DataError::Empty { path: path.to_owned() })?;
    let bytes: Box<dyn Read + Send> = Box::new(Cursor::new(lines));
    Ok(Source { bytes, encoding: Some(TextEncoding::UTF_8), unused })
}

/// A line for each row; empty ones up to and with the header.
fn json_lines(sheet: &Range<Data>) -> Vec<u8> {
    let above = sheet.start().map_or(0, |(row, _)| row as usize);
    let mut lines = vec![b'\n'; above + 1];
    let mut rows = sheet.rows();
    let header: Vec<String> =
        rows.next().into_iter().flatten().map(|cell| text(cell).trim().to_owned()).collect();
    for row in rows {
        let cells = header.iter().zip(row).filter(|(name, _)| !name.is_empty());
        let record: Map<String, Value> =
            cells.map(|(name, cell)| (name.clone(), Value::String(text(cell)))).collect();
        if record.values().any(|value| value.as_str() != Some("")) {
            lines.extend(Value::Object(record).to_string().into_bytes());
        }
        lines.push(b'\n');
    }
    lines
}

/// What a cell shows; numbers that are whole without a point, as they are typed.
fn text(cell: &Data) -> String {
    match cell {
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            format!("{number:.0}")
        }
        Data::DateTime(moment) if moment.is_datetime() => {
            let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
            let date = format!("{year:04}-{month:02}-{day:02}");
            match (hour, minute, second) {
                (0, 0, 0) => date,
                _ => format!("{date} {hour:02}:{minute:02}:{second:02}"),
            }
        }
        other => other.to_string(),
    }
}
