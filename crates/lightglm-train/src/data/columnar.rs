//! Parquet files, as JSON lines of which line `n` is row `n`.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Row;
use parquet::record::reader::RowIter;

use super::encoding::TextEncoding;
use super::fault::DataError;
use super::source::Source;

/// Whether a file that begins with `head` may be one.
pub(super) fn is_one(head: &[u8]) -> bool {
    head.starts_with(b"PAR1")
}

/// The rows of a file, read while they are asked for.
pub(super) fn open(path: &Path) -> Result<Source, DataError> {
    let refused = |reason: String| DataError::Parquet { path: path.to_owned(), reason };
    let file =
        File::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let rows = guarded(|| {
        let reader = SerializedFileReader::new(file)?;
        if reader.metadata().file_metadata().num_rows() == 0 {
            return Ok(None);
        }
        Ok(Some(reader.into_iter()))
    });
    let rows = rows.map_err(refused)?;
    let rows = rows.ok_or_else(|| DataError::Empty { path: path.to_owned() })?;
    let bytes = Box::new(JsonLines { rows, line: Vec::new(), read: 0 });
    Ok(Source { bytes, encoding: Some(TextEncoding::UTF_8), unused: Vec::new() })
}

/// Rows as a text.
struct JsonLines {
    rows: RowIter<'static>,
    line: Vec<u8>,
    /// Bytes of the line that were read.
    read: usize,
}

impl Read for JsonLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.line.len() {
            let next = guarded(|| self.rows.next().transpose());
            let next = next.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let Some(row) = next else { return Ok(0) };
            self.line = guarded(|| Ok(json(&row))).map_err(io::Error::other)?;
            self.read = 0;
        }
        let rest = &self.line[self.read..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Ok(count)
    }
}

fn json(row: &Row) -> Vec<u8> {
    let mut line = row.to_json_value().to_string().into_bytes();
    line.push(b'\n');
    line
}

/// What the library says of a file; for it panics at some that are damaged, which is one more way to say so.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("it is damaged".to_owned()),
    }
}
