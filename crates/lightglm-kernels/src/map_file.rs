//! Read-only memory maps.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// A file mapped read-only. Slices of it share the mapping.
#[derive(Clone, Debug)]
pub struct MappedFile {
    bytes: Bytes,
}

/// Owns the mapping behind a [`Bytes`].
struct Owner(Mmap);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps `path` read-only; nothing is read yet. An empty file gives no bytes.
///
/// The file must not be cut short while it is mapped: as with every memory map, the operating
/// system then ends the process (SIGBUS). Writers in this project write to a temporary name and
/// rename, which leaves existing maps intact.
///
/// # Errors
/// What the operating system says: the file is not there, not readable, not mappable.
pub fn map_file(path: &Path) -> std::io::Result<MappedFile> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(MappedFile { bytes: Bytes::new() });
    }
    // SAFETY: the map is read-only and private to us; the caveat that another process may change
    // the file under the map is stated above, and shared by every program that maps weights.
    let map = unsafe { Mmap::map(&file)? };
    Ok(MappedFile { bytes: Bytes::from_owner(Owner(map)) })
}

impl MappedFile {
    /// The file's bytes, shared with the mapping.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
