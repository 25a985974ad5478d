//! Files as bytes and text, decompressed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::error::EvalDataError;

/// Bytes, decompressed, past which a file is refused: a small gzip file can hold any number.
const LIMIT: u64 = 4 << 30;

/// The bytes of a file, decompressed where it is gzip or zstd.
///
/// # Errors
/// [`EvalDataError::Read`], also where a compressed file ends too early; [`EvalDataError::TooLarge`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, EvalDataError> {
    read_up_to(path, LIMIT)
}

/// The text of a file, decompressed where it is gzip or zstd, without a byte order mark.
///
/// # Errors
/// Those of [`read_bytes`], and [`EvalDataError::NotText`].
pub fn read_text(path: &Path) -> Result<String, EvalDataError> {
    let text = String::from_utf8(read_bytes(path)?).map_err(|error| EvalDataError::NotText {
        path: path.to_owned(),
        valid_up_to: error.utf8_error().valid_up_to(),
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn read_up_to(path: &Path, limit: u64) -> Result<Vec<u8>, EvalDataError> {
    let failed = |source| EvalDataError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(failed)?;
    let whole = magic.as_slice().chain(file);
    let reader: Box<dyn Read> = match magic[..] {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(whole);
            Box::new(decoder.map_err(|error| failed(std::io::Error::other(error)))?)
        }
        _ => Box::new(whole),
    };
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(EvalDataError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_larger_than_the_limit_is_refused() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&[0; 1000]).expect("in memory");
        file.write_all(&encoder.finish().expect("in memory")).expect("a file");
        assert_eq!(read_up_to(file.path(), 1000).expect("small enough").len(), 1000);
        let error = read_up_to(file.path(), 999).expect_err("one too many");
        assert!(matches!(error, EvalDataError::TooLarge { limit: 999, .. }), "{error}");
    }
}
