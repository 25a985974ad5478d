//! Watching a training run: a live line in the terminal, or a line every few seconds in a log; a file of
//! JSON lines; the loss curves.
//!
//! indicatif rather than a full-screen board: it is one line, it works over ssh, and what one wants to
//! look at for longer is drawn to a file.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use lightglm::training::{
    CheckpointFolder, Checkpoints, MetricsFile, RunOptions, StopReason, TokenizedExample,
    TrainConfig, TrainEvent, TrainOutcome, TrainingModel,
};
use lightglm::write_whole;

use crate::loss_plot::{Curves, svg};
use lightglm_examples::progress_bar::LineClock;

/// How much of the last steps the loss shown is a mean of.
const SMOOTHING: f64 = 0.9;

/// Where a run in the folder `output` keeps its checkpoints, the last two of them, and what it tells:
/// a fresh run, or with `resume` one that continues after the last checkpoint.
///
/// # Errors
/// Where the folder cannot be written to, or holds a run that is not to be resumed.
pub fn open_run(output: &Path, resume: bool) -> Result<(CheckpointFolder, MetricsFile)> {
    let folder = CheckpointFolder::open(&output.join("checkpoints"), 2)?;
    let step = folder.steps()?.pop().unwrap_or(0);
    let shown = output.display();
    ensure!(
        resume || step == 0,
        "{shown}: holds a run up to step {step}: --resume, or another --output"
    );
    let metrics = output.join("metrics.jsonl");
    let metrics = match resume {
        true => MetricsFile::resume(&metrics, step)?,
        false => MetricsFile::create(&metrics)?,
    };
    Ok((folder, metrics))
}

/// A run whose folder is ready.
pub struct WatchedRun<'a> {
    output: &'a Path,
    resume: bool,
    title: String,
    checkpoints: CheckpointFolder,
    metrics: MetricsFile,
}

/// A run that came to its end.
pub struct WatchedOutcome {
    /// How it ended.
    pub outcome: TrainOutcome,
    /// Steps that this process has done.
    pub steps: usize,
    /// Seconds that they took.
    pub seconds: f64,
}

impl<'a> WatchedRun<'a> {
    /// As [`open_run`]; `title` stands above the curves.
    ///
    /// # Errors
    /// Those of [`open_run`].
    pub fn open(output: &'a Path, resume: bool, title: String) -> Result<Self> {
        let (checkpoints, metrics) = open_run(output, resume)?;
        Ok(Self { output, resume, title, checkpoints, metrics })
    }

    /// Trains `student`; `None` where `stop` was raised before the end.
    ///
    /// # Errors
    /// Where training fails, or metrics or curves cannot be written.
    pub fn train(
        self,
        student: &mut TrainingModel,
        rows: &[TokenizedExample],
        validation: &[TokenizedExample],
        config: &TrainConfig,
        stop: Arc<AtomicBool>,
    ) -> Result<Option<WatchedOutcome>> {
        let mut watch = TrainingWatch::new(self.metrics, stop)?;
        let checkpoints = Checkpoints { folder: &self.checkpoints, resume: self.resume };
        let run = RunOptions { validation, checkpoints: Some(checkpoints) };
        let started = Instant::now();
        let trained = student.train_with(rows, config, run, |event| watch.see(event));
        let seconds = started.elapsed().as_secs_f64();
        let curves = watch.finish(&self.title, &self.output.join("loss.svg"))?;
        let (outcome, steps) = (trained?, curves.train.len());
        if outcome.reason == StopReason::Interrupted {
            eprintln!("interrupted after step {}; continue with --resume", outcome.step);
            return Ok(None);
        }
        Ok(Some(WatchedOutcome { outcome, steps, seconds }))
    }
}

/// Sees a run's events.
pub struct TrainingWatch {
    bar: ProgressBar,
    metrics: MetricsFile,
    stop: Arc<AtomicBool>,
    smooth: Option<f64>,
    rate: Option<f64>,
    validation: Option<f64>,
    /// What has been seen.
    pub curves: Curves,
    failed: Option<std::io::Error>,
    /// Where stderr is no terminal, on which the bar is not drawn.
    lines: Option<LineClock>,
    /// When this part of the run began, and behind which step.
    begun: (Instant, u64),
}

impl TrainingWatch {
    /// Writes to `metrics`; ends the run once `stop` is raised.
    ///
    /// # Errors
    /// Never, unless the line's template is wrong.
    pub fn new(metrics: MetricsFile, stop: Arc<AtomicBool>) -> Result<Self> {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps {msg}, {eta} left")?;
        Ok(Self {
            bar: ProgressBar::new(0).with_style(style),
            metrics,
            stop,
            smooth: None,
            rate: None,
            validation: None,
            curves: Curves::default(),
            failed: None,
            lines: (!io::stderr().is_terminal()).then(LineClock::default),
            begun: (Instant::now(), 0),
        })
    }

    /// Takes an event in.
    pub fn see(&mut self, event: &TrainEvent) -> ControlFlow<()> {
        if let Err(error) = self.metrics.write(event) {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        match event {
            TrainEvent::Begin { step, total_steps, .. } => {
                self.begun = (Instant::now(), *step);
                self.bar.set_length(*total_steps);
                self.bar.set_position(*step);
                self.bar.reset_eta();
            }
            TrainEvent::Step(report) => {
                let mix = |old: Option<f64>, new: f64| {
                    old.map_or(new, |old| SMOOTHING * old + (1.0 - SMOOTHING) * new)
                };
                self.smooth = Some(mix(self.smooth, report.loss));
                self.rate = Some(mix(self.rate, report.tokens as f64 / report.seconds.max(1e-9)));
                self.curves.train.push((report.step as f64, report.loss));
                self.curves.learning_rate.push((report.step as f64, report.learning_rate));
                self.bar.set_position(report.step);
                self.bar.set_message(self.message());
                self.line(report.step, report.total_steps);
            }
            TrainEvent::Validation { step, loss, .. } => {
                self.validation = Some(*loss);
                self.curves.validation.push((*step as f64, *loss));
                self.bar.set_message(self.message());
            }
            _ => {}
        }
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// A line for a log, where one is due.
    fn line(&mut self, step: u64, total: u64) {
        if self.lines.as_mut().is_some_and(|clock| clock.is_due() || step == total) {
            let (since, first) = self.begun;
            let seconds = since.elapsed().as_secs_f64() / (step - first).max(1) as f64;
            let left = seconds * (total - step) as f64;
            eprintln!("step {step} of {total}: {}, {left:.0} s left", self.message());
        }
    }

    fn message(&self) -> String {
        let mut text = format!("loss {:.3}", self.smooth.unwrap_or(f64::NAN));
        if let Some(validation) = self.validation {
            text += &format!(", validation {validation:.3}");
        }
        text += &format!(", {:.0} tokens/s", self.rate.unwrap_or(0.0));
        if let Some(bytes) = resident_bytes() {
            text += &format!(", {:.1} GB", bytes as f64 / 1e9);
        }
        text
    }

    /// Ends the line and draws the curves to `plot`.
    ///
    /// # Errors
    /// Where the metrics or the plot could not be written.
    pub fn finish(mut self, title: &str, plot: &Path) -> Result<Curves> {
        self.bar.finish_and_clear();
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        write_whole(plot, &svg(title, &self.curves)?)?;
        Ok(self.curves)
    }
}

/// Memory that this process holds, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    status_kilobytes("VmRSS:").map(|kilobytes| kilobytes * 1024)
}

/// The most memory that this process has held, where the system tells.
pub fn peak_resident_bytes() -> Option<u64> {
    status_kilobytes("VmHWM:").map(|kilobytes| kilobytes * 1024)
}

fn status_kilobytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}
