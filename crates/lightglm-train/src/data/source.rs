//! `Source`: a file's text, whatever it is wrapped in.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::encoding::TextEncoding;
use super::fault::DataError;

/// A file's text and the encoding it is in.
pub(super) struct Source {
    pub(super) bytes: Box<dyn Read + Send>,
    /// `None` where the file's beginning has to tell.
    pub(super) encoding: Option<TextEncoding>,
    /// Parts of the file that are not read: further sheets.
    pub(super) unused: Vec<String>,
}

const FROM_PARQUET: &str = "build with the feature `parquet`, or write it as JSON lines with \
     pandas.read_parquet and to_json";
const TO_JSON_LINES: &str = "write it as JSON lines, for example with Python: import pandas; \
     pandas.read_feather(\"FILE\").to_json(\"FILE.jsonl\", orient=\"records\", lines=True, \
     force_ascii=False)";
const TO_CSV: &str = "save it as CSV or as Unicode text in Excel, or build with the feature \
     `spreadsheets`";
const UNPACK: &str = "unpack it first; gzip alone is unpacked here";
const AS_TEXT: &str = "rows are read from JSON lines, JSON, CSV, TSV and plain text";

/// How files begin that are no text, what they are, and what to do about it.
const OTHER_KINDS: [(&[u8], &str, &str); 15] = [
    (b"PAR1", "a Parquet file", FROM_PARQUET),
    (b"ARROW1", "an Arrow file", TO_JSON_LINES),
    (b"\xff\xff\xff\xff\x78\x01\0\0", "an Arrow stream", TO_JSON_LINES),
    (b"PK\x03\x04", "a spreadsheet or another zip file", TO_CSV),
    (b"\xd0\xcf\x11\xe0", "an old Office file", TO_CSV),
    (b"\x28\xb5\x2f\xfd", "a zstd file", UNPACK),
    (b"BZh", "a bzip2 file", UNPACK),
    (b"\xfd7zXZ\0", "an xz file", UNPACK),
    (b"7z\xbc\xaf", "a 7z file", UNPACK),
    (b"Rar!", "a rar file", UNPACK),
    (b"SQLite format 3\0", "an SQLite database", AS_TEXT),
    (b"%PDF-", "a PDF file", AS_TEXT),
    (b"\x89PNG", "an image", AS_TEXT),
    (b"\xff\xd8\xff", "an image", AS_TEXT),
    (b"\x80\x04\x95", "a Python pickle", AS_TEXT),
];

/// How UTF-32 begins, which begins as UTF-16 does but for the zeros.
const UTF_32: [&[u8]; 2] = [b"\xff\xfe\0\0", b"\0\0\xfe\xff"];

impl Source {
    /// Opens a file. Where no encoding is given it is read once to find out, and again for its rows.
    pub(super) fn open(path: &Path, encoding: Option<TextEncoding>) -> Result<Self, DataError> {
        let failed = |source| DataError::Read { path: path.to_owned(), source };
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            // A pipe can be read but once.
            let bytes = Box::new(File::open(path).map_err(failed)?);
            return Ok(Self { bytes, encoding, unused: Vec::new() });
        }
        let head = head(path).map_err(failed)?;
        if head.starts_with(b"\x1f\x8b") {
            let unpacked = || Ok(MultiGzDecoder::new(BufReader::new(File::open(path)?)));
            return Self::of(unpacked, encoding).map_err(failed);
        }
        #[cfg(feature = "parquet")]
        if super::columnar::is_one(&head) {
            return super::columnar::open(path);
        }
        #[cfg(feature = "spreadsheets")]
        if super::spreadsheet::is_one(&head) {
            return super::spreadsheet::open(path);
        }
        if let Some((_, kind, advice)) =
            OTHER_KINDS.iter().find(|(begin, ..)| head.starts_with(begin))
        {
            return Err(DataError::OtherKind { path: path.to_owned(), kind, advice });
        }
        if UTF_32.iter().any(|mark| head.starts_with(mark)) {
            let (kind, advice) = ("text in UTF-32", "save it as UTF-8");
            return Err(DataError::OtherKind { path: path.to_owned(), kind, advice });
        }
        Self::of(|| File::open(path), encoding).map_err(failed)
    }

    fn of<R: Read + Send + 'static>(
        open: impl Fn() -> io::Result<R>,
        encoding: Option<TextEncoding>,
    ) -> io::Result<Self> {
        let encoding = match encoding {
            Some(encoding) => encoding,
            None => TextEncoding::of(open()?)?,
        };
        Ok(Self { bytes: Box::new(open()?), encoding: Some(encoding), unused: Vec::new() })
    }
}

/// A file's first bytes.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(16).read_to_end(&mut head)?;
    Ok(head)
}
