//! Files that are written whole or not at all.

use std::path::Path;

use anyhow::Result;

/// [`lightglm::write_whole`] for programs.
///
/// # Errors
/// Where the folder cannot be written to; a file that was there is then as it was.
pub fn write_whole(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    Ok(lightglm::write_whole(path, contents)?)
}
