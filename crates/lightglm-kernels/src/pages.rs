//! Host memory in pages, as burn's bytes.

use burn::tensor::{AllocationProperty, Bytes};

/// A page. Registers loaded from it never cross a cache line, and runs of its length never a page.
#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "read through the slice only")] [u8; 4096]);

/// `len` bytes that begin with a page.
pub(crate) struct Pages {
    pages: Vec<Page>,
    len: usize,
}

impl Pages {
    /// `len` times `byte`.
    pub(crate) fn filled(len: usize, byte: u8) -> Self {
        Self { pages: vec![Page([byte; 4096]); len.div_ceil(4096)], len }
    }

    /// Zeros, whose pages the system hands out to whichever thread writes them first.
    pub(crate) fn zeroed(len: usize) -> Self {
        // SAFETY: bytes of zero are a page.
        let pages = unsafe { Box::new_zeroed_slice(len.div_ceil(4096)).assume_init() };
        Self { pages: pages.into_vec(), len }
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the pages hold `len` bytes, and a page is bytes without padding.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.len) }
    }

    /// As burn's bytes, without a copy.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_shared(bytes::Bytes::from_owner(self), AllocationProperty::Native)
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as in `as_mut`.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.len) }
    }
}
