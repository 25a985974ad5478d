//! The system's allocator, told what kind of program this is.

/// Keeps memory that large tensors leave behind in this process, to be used again.
///
/// A training step allocates and frees the same gigabytes over and over. glibc's allocator hands large
/// blocks back to the system each time, and each time their pages come back as page faults, one for
/// every four kilobytes: a fifth of a step on a small model. The price is that the process keeps the
/// most memory it has had. A program calls this once, before it trains; without glibc it does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes two integers and may be called at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}
