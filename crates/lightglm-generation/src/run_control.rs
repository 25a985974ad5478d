//! `RunControl`: how long work over many rows is carried out.

use std::sync::atomic::{AtomicBool, Ordering};

/// How a run is carried out: what it may hold in memory, whom it tells, what stops it.
///
/// None of this changes what is measured.
pub struct RunControl<'a> {
    /// Rows of logits fetched at a time, at least 1 (0 counts as 1). A row is `4 * vocab_size`
    /// bytes: 0.6 MB for GLM-4.
    pub rows_per_step: usize,
    /// Called with `(scored, total)` tokens after every step.
    pub progress: Option<&'a mut dyn FnMut(usize, usize)>,
    /// Looked at before every step; once it is true the run ends.
    pub stop: Option<&'a AtomicBool>,
}

impl Default for RunControl<'_> {
    /// 128 rows a step (78 MB of GLM-4 logits), silent, not to be stopped.
    fn default() -> Self {
        Self { rows_per_step: 128, progress: None, stop: None }
    }
}

impl RunControl<'_> {
    /// Reports progress.
    pub fn report(&mut self, done: usize, total: usize) {
        if let Some(progress) = &mut self.progress {
            progress(done, total);
        }
    }

    /// Whether the stop flag is up.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}
