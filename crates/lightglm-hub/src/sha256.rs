//! Copying and checking at once.

use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::progress::Running;

/// Bytes that are read at once.
pub(crate) const BUFFER: usize = 1 << 18;

/// Copies at most `limit` bytes and returns their number and their SHA-256 in hexadecimal digits.
pub(crate) fn copy_and_hash(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    limit: u64,
    progress: &Running<'_>,
) -> io::Result<(u64, String)> {
    let mut reader = reader.take(limit);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut copied = 0;
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        writer.write_all(&buffer[..read])?;
        copied += read as u64;
        progress.at(copied);
    }
    Ok((copied, hexadecimal(hasher)))
}

/// The SHA-256 of a file in hexadecimal digits.
pub(crate) fn file_hash(path: &Path, progress: &Running<'_>) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    Ok(copy_and_hash(&mut file, &mut io::sink(), u64::MAX, progress)?.1)
}

/// The digest of all that `hasher` was given.
pub(crate) fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
