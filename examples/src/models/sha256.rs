//! Copying and checking at once.

use std::io::{self, Read, Write};
use std::path::Path;

use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

/// Copies at most `limit` bytes and returns their number and their SHA-256 in hexadecimal digits.
pub(super) fn copy_and_hash(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    limit: u64,
    bar: &ProgressBar,
) -> io::Result<(u64, String)> {
    let mut reader = reader.take(limit);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut copied = 0;
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        writer.write_all(&buffer[..read])?;
        copied += read as u64;
        bar.set_position(copied);
    }
    let digest = hasher.finalize();
    Ok((copied, digest.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// The SHA-256 of a file in hexadecimal digits.
pub(super) fn file_hash(path: &Path, bar: &ProgressBar) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    Ok(copy_and_hash(&mut file, &mut io::sink(), u64::MAX, bar)?.1)
}
