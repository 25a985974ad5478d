//! The process' peak of virtual memory.

/// Peak size of the address space in bytes; `None` where the system does not tell (not Linux).
///
/// Virtual rather than resident: a buffer that a length field made terabytes large is never
/// touched, and so never resident.
pub(super) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
