//! `calibrate`: real text through a model whose layers are observed.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvCache, KvCacheError, LogitRows, SequenceId, Span};

use super::MethodError;

/// Makes an empty cache for `SequenceId(0)` to `SequenceId(sequences - 1)` of so many positions
/// each: `(sequences, positions)`.
pub type MakeCache<'a, B> =
    dyn FnMut(usize, usize) -> Result<Box<dyn KvCache<B>>, KvCacheError> + 'a;

/// How a calibration text is cut, whom the run tells, and what stops it.
pub struct CalibrationConfig<'a> {
    /// Tokens of a window; at least 1.
    pub context_length: usize,
    /// Windows that go through the model together; at least 1.
    /// [`usize::MAX`] for all of them, as a [`SequentialQuantizer`](super::SequentialQuantizer) needs.
    pub windows_per_step: usize,
    /// Called with `(done, total)` tokens after every step.
    pub progress: Option<&'a mut dyn FnMut(usize, usize)>,
    /// Looked at before every step; once it is true the run ends with [`MethodError::Stopped`].
    pub stop: Option<&'a AtomicBool>,
}

impl Default for CalibrationConfig<'_> {
    /// Windows of 512 tokens, one at a time, silent, not to be stopped.
    fn default() -> Self {
        Self { context_length: 512, windows_per_step: 1, progress: None, stop: None }
    }
}

/// Runs `tokens` through `model`, window by window; a shorter last window counts where it is the
/// only one.
///
/// # Errors
/// [`MethodError::NoText`], [`MethodError::Stopped`], or what the model or the cache says.
pub fn calibrate<B: Backend>(
    model: &dyn CausalLm<B>,
    make_cache: &mut MakeCache<'_, B>,
    tokens: &[u32],
    calibration: &mut CalibrationConfig<'_>,
) -> Result<(), MethodError> {
    run(model, make_cache, tokens, calibration, 1)
}

/// As [`calibrate()`], each step holding its windows twice: what a matching
/// [`SequentialQuantizer`](super::SequentialQuantizer) asks for. The cache is asked for twice as many
/// sequences.
///
/// # Errors
/// As [`calibrate()`].
pub fn calibrate_twice<B: Backend>(
    model: &dyn CausalLm<B>,
    make_cache: &mut MakeCache<'_, B>,
    tokens: &[u32],
    calibration: &mut CalibrationConfig<'_>,
) -> Result<(), MethodError> {
    run(model, make_cache, tokens, calibration, 2)
}

fn run<B: Backend>(
    model: &dyn CausalLm<B>,
    make_cache: &mut MakeCache<'_, B>,
    tokens: &[u32],
    calibration: &mut CalibrationConfig<'_>,
    copies: usize,
) -> Result<(), MethodError> {
    if tokens.is_empty() {
        return Err(MethodError::NoText { tokens: 0, least: 1 });
    }
    let length = calibration.context_length.clamp(1, tokens.len());
    let windows: Vec<&[u32]> = tokens.chunks_exact(length).collect();
    let total = windows.len() * length;
    for (step, windows) in windows.chunks(calibration.windows_per_step.max(1)).enumerate() {
        let done = step * calibration.windows_per_step.max(1) * length;
        if calibration.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(MethodError::Stopped { done, total });
        }
        let sequences = windows.len() * copies;
        let mut cache = make_cache(sequences, length)?;
        let span = |sequence| {
            let tokens = windows[sequence % windows.len()];
            Span::text(SequenceId(sequence), tokens, LogitRows::Last)
        };
        let spans: Vec<Span<'_>> = (0..sequences).map(span).collect();
        model.forward(&spans, cache.as_mut())?;
        if let Some(progress) = &mut calibration.progress {
            progress(done + windows.len() * length, total);
        }
    }
    Ok(())
}
