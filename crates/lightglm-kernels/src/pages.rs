//! `Pages`: host memory in pages, as burn's bytes.

use std::fmt;
use std::ops::{Deref, DerefMut};

use burn::tensor::{AllocationProperty, Bytes};
use memmap2::MmapMut;

/// A page. Registers loaded from it never cross a cache line, and runs of its length never a page.
#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "read through the slice only")] [u8; 4096]);

/// From so many bytes on, the system is asked for a map of its own, in huge pages.
const MAPPED: usize = 4 << 20;

/// Bytes that begin with a page: weights as kernels read them. Registers loaded from them in order never
/// cross a cache line.
///
/// Large ones are asked for in huge pages (`madvise(MADV_HUGEPAGE)`), where the system leaves that to
/// programs: there are fewer pages to hand out while weights are loaded, and to find while they are read.
pub struct Pages(Memory);

enum Memory {
    Heap { pages: Vec<Page>, len: usize },
    Map(MmapMut),
}

impl Pages {
    /// `len` times `byte`.
    pub fn filled(len: usize, byte: u8) -> Self {
        let mut pages = Self::zeroed(len);
        if byte != 0 {
            pages.fill(byte);
        }
        pages
    }

    /// `len` zeros. The pages of many are handed out by the system to whichever thread writes them first.
    pub fn zeroed(len: usize) -> Self {
        if len >= MAPPED
            && let Ok(map) = MmapMut::map_anon(len)
        {
            // A system without huge pages says so, and nothing else changes.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Self(Memory::Map(map));
        }
        // SAFETY: bytes of zero are a page.
        let pages = unsafe { Box::new_zeroed_slice(len.div_ceil(4096)).assume_init() };
        Self(Memory::Heap { pages: pages.into_vec(), len })
    }

    /// As burn's bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_shared(bytes::Bytes::from_owner(self), AllocationProperty::Native)
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the pages hold `len` bytes, and a page is bytes without padding.
            Memory::Heap { pages, len } => unsafe {
                std::slice::from_raw_parts(pages.as_ptr().cast(), *len)
            },
            Memory::Map(map) => map,
        }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            // SAFETY: as in `deref`.
            Memory::Heap { pages, len } => unsafe {
                std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), *len)
            },
            Memory::Map(map) => map,
        }
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for Pages {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("len", &self.len()).finish_non_exhaustive()
    }
}
