//! Tokens per second of two models, in turns.

use std::time::Instant;

use lightglm_core::{CausalLm, LogitRows, SequenceId, Span};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::{LmBackend, LmGradients};

use super::workload::finish;
use crate::device::{DeviceJob, run_on};
use crate::error::Error;
use crate::model::Model;
use crate::progress::ProgressSink;

/// Decode steps per second of both models on `tokens` (at least one, repeated where they are few), each
/// with one sequence of about `steps` steps from an empty cache. They take turns: a shared machine
/// changes its speed by the second. The first step warms up and is not counted.
///
/// # Errors
/// [`Error::Option`] where there are no tokens, or the models are on different devices;
/// [`Error::OneConversation`]; where a model refuses the tokens; [`Error::Interrupted`].
pub fn decode_speeds(
    models: [&Model; 2],
    tokens: &[u32],
    steps: usize,
    progress: &ProgressSink,
) -> Result<[f64; 2], Error> {
    let wrong = |option, reason: &str| Err(Error::Option { option, reason: reason.to_owned() });
    if tokens.is_empty() {
        return wrong("tokens", "there are none to decode");
    }
    let [device, other] = models.map(|model| model.options().device);
    if device != other {
        return wrong("device", "models are compared in speed on one device");
    }
    for model in models {
        model.refuse_one_conversation("decode_speeds")?;
    }
    run_on(device, InTurns { models, tokens, steps, progress })?
}

struct InTurns<'a> {
    models: [&'a Model; 2],
    tokens: &'a [u32],
    steps: usize,
    progress: &'a ProgressSink,
}

impl DeviceJob for InTurns<'_> {
    type Output = Result<[f64; 2], Error>;

    fn run<B: LmGradients>(self, _: B::Device) -> Self::Output {
        let Self { models, tokens, steps, progress } = self;
        let limit = models.iter().map(|model| model.config().context_length()).min();
        let steps = steps.min(limit.unwrap_or_default().saturating_sub(1)).max(1);
        let caches = models.map(|model| model.cache::<B>(1, steps + 1));
        let models: [&dyn CausalLm<B>; 2] = models.map(|model| &*model.on::<B>().model as _);
        in_turns(models, caches, tokens, steps, progress)
    }
}

/// Seconds are those of `steps` steps after the first, on empty `caches` with room for `steps + 1`
/// positions.
///
/// # Errors
/// Where a model refuses the tokens; [`Error::Interrupted`].
pub(crate) fn in_turns<B: LmBackend>(
    models: [&dyn CausalLm<B>; 2],
    mut caches: [ContiguousKvCache<B>; 2],
    tokens: &[u32],
    steps: usize,
    progress: &ProgressSink,
) -> Result<[f64; 2], Error> {
    let mut seconds = [0.0; 2];
    for (step, token) in tokens.iter().cycle().take(steps + 1).enumerate() {
        progress.working("measuring speed", step as u64, steps as u64)?;
        for (i, model) in models.iter().enumerate() {
            let tokens = std::slice::from_ref(token);
            let span = Span::text(SequenceId(0), tokens, LogitRows::Last);
            let start = Instant::now();
            finish(&model.forward(&[span], &mut caches[i])?);
            if step > 0 {
                seconds[i] += start.elapsed().as_secs_f64();
            }
        }
    }
    Ok(seconds.map(|seconds| steps as f64 / f64::max(seconds, f64::MIN_POSITIVE)))
}
