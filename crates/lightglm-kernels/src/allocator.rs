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

/// Gives memory back to the system that nobody uses any more.
///
/// glibc's allocator keeps what is freed below the mark of each of its arenas, and of tensors that have come and gone
/// that may be all: after a model was unloaded, 407 MB of a process were 41 MB once it had been told. A program
/// calls this when something large has gone for good; without glibc it does nothing.
pub fn give_freed_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes an integer and may be called at any time, from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
