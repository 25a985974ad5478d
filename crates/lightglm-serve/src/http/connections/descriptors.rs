//! File descriptors: raising their limit, and how many connections they allow.

use std::io;

/// For files that are read meanwhile: adapters, certificates.
const FILES: u64 = 64;

/// Raises the process's limit on open files as far as it may, and returns what it is then.
///
/// Many systems start programs with 1,024, of which each connection takes one, though the program may have
/// many more for the asking.
///
/// # Errors
/// The system's, which is in the log as well; the limit is what it was, and serving works with it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX).inspect_err(|error| {
        tracing::warn!(%error, "the limit on open files (ulimit -n) could not be raised");
    })
}

/// Connections that the process can have beside what it has open now: `wanted` at most.
pub(in crate::http) fn room_for_connections(wanted: usize) -> usize {
    let Some(limit) = limit() else { return wanted };
    let room = limit.saturating_sub(open()).saturating_sub(FILES).max(1);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(unix)]
fn limit() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}

#[cfg(not(unix))]
fn limit() -> Option<u64> {
    None
}

/// Descriptors that are open.
fn open() -> u64 {
    // Where it cannot be seen: a runtime, a listener or two, and some to spare.
    const GUESS: u64 = 32;
    let listed =
        std::fs::read_dir(if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" });
    listed.map_or(GUESS, |files| files.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_the_descriptors() {
        assert_eq!(room_for_connections(1), 1);
        let room = room_for_connections(usize::MAX);
        assert!(room >= 1 && limit().is_none_or(|limit| (room as u64) < limit));
        assert!(raise_descriptor_limit().is_ok_and(|limit| limit >= room as u64));
    }
}
