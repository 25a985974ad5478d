//! Read-only memory maps.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::Mmap;

/// A file mapped read-only. Slices of it share the mapping.
#[derive(Clone, Debug)]
pub struct MappedFile {
    bytes: Bytes,
}

/// Owns the mapping behind a [`Bytes`].
struct Owner(Mmap);

/// Addresses of the mappings that are alive, for [`page_out`] to tell them from other memory.
static MAPPED: Mutex<Vec<Range<usize>>> = Mutex::new(Vec::new());

fn mapped() -> MutexGuard<'static, Vec<Range<usize>>> {
    // Nothing that holds it can panic halfway.
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn addresses(bytes: &[u8]) -> Range<usize> {
    bytes.as_ptr().addr()..bytes.as_ptr().addr() + bytes.len()
}

impl Owner {
    fn new(map: Mmap) -> Self {
        mapped().push(addresses(&map));
        Self(map)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mine = addresses(&self.0);
        mapped().retain(|range| *range != mine);
    }
}

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
    Ok(MappedFile { bytes: Bytes::from_owner(Owner::new(map)) })
}

impl MappedFile {
    /// The file's bytes, shared with the mapping.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Tells the operating system that the pages under `bytes` are needed soon: where they are a mapped file's, it
/// begins to read them. Does nothing where the system has no such call.
pub fn page_in(bytes: &[u8]) {
    #[cfg(target_os = "linux")]
    {
        // From the page that the first byte is in.
        let page = page_size();
        let start = bytes.as_ptr().map_addr(|addr| addr / page * page);
        let len = bytes.len() + bytes.as_ptr().addr() % page;
        // SAFETY: the pages hold bytes of a live slice, and MADV_WILLNEED reads ahead and changes nothing.
        unsafe { libc::madvise(start as *mut _, len, libc::MADV_WILLNEED) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// Tells the operating system that the pages under `bytes` are not needed soon.
///
/// For a copy made of a mapped tensor: without this the pages of the file would count beside the
/// copy as this process' memory. The bytes stay valid and are read again where they are used again. A
/// file's pages stay in the system's cache, so that the next start finds them there.
/// Does nothing where the system has no such call.
pub fn page_out(bytes: &[u8]) {
    #[cfg(target_os = "linux")]
    {
        // Only whole pages: the ends may belong to a neighbour.
        let page = page_size();
        let start = bytes.as_ptr().align_offset(page);
        let Some(pages) = bytes.get(start..).map(|rest| &rest[..rest.len() / page * page]) else {
            return;
        };
        if !pages.is_empty() {
            let these = addresses(pages);
            let is_inside = |map: &Range<usize>| map.start <= these.start && these.end <= map.end;
            let advice = match mapped().iter().any(is_inside) {
                true => libc::MADV_DONTNEED,
                false => libc::MADV_PAGEOUT,
            };
            // SAFETY: the range lies in a live slice. MADV_DONTNEED lets go of pages of a file that is
            // mapped read-only, which are found again when they are touched; MADV_PAGEOUT never changes
            // what memory holds: it writes dirty pages to swap.
            unsafe { libc::madvise(pages.as_ptr() as *mut _, pages.len(), advice) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// The system's, or the largest there is.
#[cfg(target_os = "linux")]
fn page_size() -> usize {
    // SAFETY: the call reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(1 << 16)
}
