//! `watched`: a run of an evaluation that a progress sink sees and may end.

use std::sync::atomic::{AtomicBool, Ordering};

use lightglm_generation::RunControl;

use crate::model::Model;
use crate::progress::{Progress, ProgressSink};

/// Calls `run` with a control that tells `progress` and is stopped by it.
pub(super) fn watched<T>(
    doing: &'static str,
    progress: &ProgressSink,
    models: &[&Model],
    run: impl FnOnce(&mut RunControl<'_>) -> T,
) -> T {
    let stop = AtomicBool::new(false);
    let mut tell = |done: usize, total: usize| {
        let (done, total) = (done as u64, total as u64);
        if progress.report(Progress::Working { doing, done, total }).is_break() {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let mut control =
        RunControl { progress: Some(&mut tell), stop: Some(&stop), ..RunControl::default() };
    if models.iter().any(|model| model.options().kv_budget.is_some()) {
        // Pages are chosen for single rows: what is scored is decoded.
        control.rows_per_step = 1;
    }
    run(&mut control)
}
