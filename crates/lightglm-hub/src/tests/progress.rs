//! What a program hears while it waits.

use std::sync::{Arc, Mutex};

use super::fake_hub::{FakeHub, options};
use crate::{Activity, Progress, ProgressCallback, resolve};

/// Every report as a line.
fn heard(name: &str, breaks: usize) -> Vec<String> {
    let hub = FakeHub::with_files(&[("q.gguf", &[7; 1000])]);
    hub.break_off("q.gguf", breaks);
    let dir = tempfile::tempdir().unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    let mut options = options(&hub.endpoint, dir.path());
    options.progress = ProgressCallback::new(move |progress| {
        heard.lock().unwrap().push(match progress {
            Progress::Started { activity: Activity::Downloading, name, bytes: Some(bytes) } => {
                format!("{name} of {bytes}")
            }
            Progress::Advanced { bytes } => bytes.to_string(),
            Progress::Ended => "end".to_owned(),
            other => format!("{other:?}"),
        });
    });
    resolve(name, &options).ok();
    drop(options);
    Arc::into_inner(lines).unwrap().into_inner().unwrap()
}

#[test]
fn bytes_are_counted_up_to_the_file_s_length() {
    for name in ["owner/name", "modelscope:owner/name"] {
        let lines = heard(name, 0);
        assert_eq!(lines.first().unwrap(), "q.gguf of 1000", "{name}: {lines:?}");
        assert_eq!(lines.iter().rev().take(2).collect::<Vec<_>>(), ["end", "1000"], "{name}");
    }
}

#[test]
fn what_has_started_ends_whatever_happens() {
    for name in ["owner/name", "modelscope:owner/name"] {
        let lines = heard(name, 100);
        let starts = lines.iter().filter(|line| line.contains(" of ")).count();
        let ends = lines.iter().filter(|line| *line == "end").count();
        assert!(starts > 0 && starts == ends, "{name}: {lines:?}");
    }
}
