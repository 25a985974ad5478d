//! `watched`: a run of an evaluation that a progress sink sees and may end.

use lightglm_generation::RunControl;

use crate::error::Error;
use crate::model::Model;
use crate::progress::ProgressSink;

/// Calls `run` with a control that tells `progress` and is stopped by it.
///
/// # Errors
/// As [`ProgressSink::controlled`].
pub(super) fn watched<T, E: Into<Error>>(
    doing: &'static str,
    progress: &ProgressSink,
    models: &[&Model],
    run: impl FnOnce(&mut RunControl<'_>) -> Result<T, E>,
) -> Result<T, Error> {
    progress.controlled(doing, |control| {
        if models.iter().any(|model| model.options().kv_budget.is_some()) {
            // Pages are chosen for single rows: what is scored is decoded.
            control.rows_per_step = 1;
        }
        run(control)
    })
}
