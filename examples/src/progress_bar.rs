//! The library's progress as bars on stderr; where that is no terminal, as a line every few seconds.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lightglm::{Progress, ProgressSink};

/// Seconds between two lines of a log.
const SECONDS_BETWEEN_LINES: u64 = 5;

/// Tells when the next line of a log is due: not for what is over at once, and every few seconds then.
#[derive(Clone, Copy, Debug)]
pub struct LineClock(Instant);

impl Default for LineClock {
    /// Starts the clock.
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl LineClock {
    /// Whether a line is due; if so, the next one is a few seconds off.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.0.elapsed() >= Duration::from_secs(SECONDS_BETWEEN_LINES);
        if is_due {
            *self = Self::default();
        }
        is_due
    }
}

/// What is under way, how much of it is done, of how much, and whether that is bytes.
type Doing = (String, u64, Option<u64>, bool);

fn doing(progress: Progress) -> Option<Doing> {
    Some(match progress {
        Progress::Fetching { doing, file, done, total } => {
            (format!("{doing} {file}"), done, total, true)
        }
        Progress::Quantizing { done, total } => ("quantizing".into(), done, Some(total), false),
        Progress::Working { doing, done, total } => (doing.into(), done, Some(total), false),
        _ => return None,
    })
}

/// Draws one bar for whatever is under way; where stderr is no terminal, a line every few seconds.
pub fn on_stderr() -> ProgressSink {
    if io::stderr().is_terminal() { bars() } else { lines() }
}

fn lines() -> ProgressSink {
    let clock = Mutex::new(LineClock::default());
    ProgressSink::new(move |progress| {
        let mut clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((what, done, total, bytes)) = doing(progress)
            && clock.is_due()
        {
            let amount = |amount: u64| match bytes {
                true => format!("{:.1} MB", amount as f64 / 1e6),
                false => amount.to_string(),
            };
            let of = total.map_or(String::new(), |total| format!(" of {}", amount(total)));
            eprintln!("{what}: {}{of}", amount(done));
        }
        ControlFlow::Continue(())
    })
}

fn bars() -> ProgressSink {
    let current: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    ProgressSink::new(move |progress| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, done, total, bytes) = match doing(progress) {
            Some(doing) => doing,
            None => {
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
