//! The library's progress as bars on stderr.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lightglm::{Progress, ProgressSink};

/// Draws one bar for whatever is under way; nothing where stderr is no terminal.
pub fn on_stderr() -> ProgressSink {
    let current: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    ProgressSink::new(move |progress| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, done, total, bytes) = match progress {
            Progress::Fetching { doing, file, done, total } => {
                (format!("{doing} {file}"), done, total, true)
            }
            Progress::Quantizing { done, total } => ("quantizing".into(), done, Some(total), false),
            Progress::Working { doing, done, total } => (doing.into(), done, Some(total), false),
            _ => {
                if let Some((_, bar)) = current.take() {
                    bar.finish_and_clear();
                }
                return ControlFlow::Continue(());
            }
        };
        if current.as_ref().is_none_or(|(shown, _)| *shown != what) {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            *current = Some((what.clone(), bar(&what, total, bytes)));
        }
        if let Some((_, bar)) = &*current {
            bar.set_position(done);
            if total == Some(done) {
                bar.finish_and_clear();
                *current = None;
            }
        }
        ControlFlow::Continue(())
    })
}

/// As [`on_stderr`]; the work is broken off once `stop` is raised.
pub fn on_stderr_until(stop: Arc<AtomicBool>) -> ProgressSink {
    let bars = on_stderr();
    ProgressSink::new(move |progress| {
        let going = bars.report(progress);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { going }
    })
}

fn bar(what: &str, total: Option<u64>, bytes: bool) -> ProgressBar {
    let Some(total) = total else {
        let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(100));
        return spinner;
    };
    let style = match bytes {
        true => "{msg} {bar:30} {bytes}/{total_bytes}, {eta} left",
        false => "{msg} {bar:40} {human_pos}/{human_len}, {eta} left",
    };
    let style = ProgressStyle::with_template(style).expect("a valid template");
    ProgressBar::new(total).with_style(style).with_message(what.to_owned())
}
