//! `ProcessCollector`: what the process takes of the machine, by the names that Prometheus' own clients have.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Clock ticks a second in `/proc`: Linux has the same for every program on all that Rust runs on.
const TICKS: f64 = 100.0;

/// Reads `/proc` when Prometheus asks; elsewhere than on Linux it says nothing.
#[derive(Debug)]
pub(in crate::http) struct ProcessCollector;

/// What the process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: Option<f64>,
    /// Seconds since 1970.
    start_time: Option<f64>,
    resident_bytes: Option<i64>,
    virtual_bytes: Option<i64>,
    threads: Option<i64>,
    open_fds: Option<i64>,
    max_fds: Option<i64>,
}

fn usage() -> Usage {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let bytes = |name| field(&status, name).map(|kib| kib.saturating_mul(1024));
    let (cpu, since_boot) = ticks(&read("/proc/self/stat"));
    let booted = field(&read("/proc/stat"), "btime");
    Usage {
        cpu_seconds: cpu,
        start_time: booted.zip(since_boot).map(|(booted, since)| booted as f64 + since),
        resident_bytes: bytes("VmRSS:"),
        virtual_bytes: bytes("VmSize:"),
        threads: field(&status, "Threads:"),
        // The one that reads the folder is one of them.
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|folder| folder.count() as i64),
        max_fds: field(&read("/proc/self/limits"), "Max open files"),
    }
}

/// The number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Seconds of the processor, and from the machine's start to the process's.
fn ticks(stat: &str) -> (Option<f64>, Option<f64>) {
    // The second field is the program's name in brackets, which may have anything in it.
    let Some((_, rest)) = stat.rsplit_once(')') else { return (None, None) };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Counted from the third: proc_pid_stat(5) has utime as 14, stime as 15, starttime as 22.
    let seconds = |at: usize| Some(fields.get(at - 3)?.parse::<f64>().ok()? / TICKS);
    (seconds(14).zip(seconds(15)).map(|(user, system)| user + system), seconds(22))
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let usage = usage();
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", usage.resident_bytes),
            ("process_virtual_memory_bytes", "Address space", usage.virtual_bytes),
            ("process_open_fds", "Open files and sockets", usage.open_fds),
            ("process_max_fds", "Files and sockets that may be open", usage.max_fds),
            ("process_threads", "Threads", usage.threads),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if let Some(seconds) = usage.start_time {
            let (name, help) = ("process_start_time_seconds", "When it began, since 1970");
            let gauge = ConstGauge::new(seconds);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if let Some(seconds) = usage.cpu_seconds {
            let (name, help) = ("process_cpu_seconds", "Time of processors");
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_are_no_fields() {
        let fields = "S 1 2 3 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 1234500 9 9";
        let stat = format!("42 (a) b) {fields}");
        assert_eq!(ticks(&stat), (Some(3.0), Some(12_345.0)));
        assert_eq!(ticks(""), (None, None));
        assert_eq!(ticks("1 (x) S"), (None, None));
        assert_eq!(field("VmSize:\t  12 kB\nVmRSS:\t7 kB\n", "VmRSS:"), Some(7));
        assert_eq!(field("Max open files   unlimited", "Max open files"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_measured() {
        let usage = usage();
        assert!(usage.resident_bytes.unwrap() > 1 << 20, "{usage:?}");
        assert!(usage.open_fds.unwrap() >= 3 && usage.threads.unwrap() >= 1, "{usage:?}");
        assert!(
            usage.cpu_seconds.unwrap() >= 0.0 && usage.start_time.unwrap() > 1.5e9,
            "{usage:?}"
        );
    }
}
