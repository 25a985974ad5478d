//! Files that are written whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use lightglm_core::temporary_in;

use crate::error::Error;

/// Writes `contents` to `path` by way of a temporary file beside it.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be written to; a file that was there is then as it was.
pub fn write_whole(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = temporary_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(contents.as_ref())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| Error::Io { file: path.to_owned(), source })
}
