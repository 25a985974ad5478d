//! Bars on stderr while a model is downloaded.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lightglm_hub::{Activity, Progress, ProgressCallback};

/// Draws a bar for every file, and takes it away when the file is done.
pub fn on_stderr() -> ProgressCallback {
    let shown = Mutex::new(ProgressBar::hidden());
    ProgressCallback::new(move |progress| {
        // A poisoned lock means that drawing has panicked once: nothing is drawn any more.
        let Ok(mut bar) = shown.lock() else { return };
        match progress {
            Progress::Started { activity, name, bytes } => {
                *bar = match bytes {
                    Some(bytes) => byte_bar(bytes),
                    None => spinner(),
                };
                bar.set_message(message(activity, name));
            }
            Progress::Advanced { bytes } => bar.set_position(bytes),
            _ => bar.finish_and_clear(),
        }
    })
}

fn message(activity: Activity, name: &str) -> String {
    match activity {
        Activity::RunningPip => format!("pip download {name}"),
        Activity::Checking => format!("checking {name}"),
        Activity::Unpacking => format!("unpacking {name}"),
        _ => name.to_owned(),
    }
}

/// A bar that counts bytes.
fn byte_bar(bytes: u64) -> ProgressBar {
    let template = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} ({eta})";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Something that turns while nothing can be counted.
fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
