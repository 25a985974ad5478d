//! Tokens per second of two models, in turns.

use std::time::Instant;

use lightglm_generation::SamplingParams;

use crate::error::Error;
use crate::model::{Model, Prompt, Request};
use crate::progress::{Progress, ProgressSink};

/// What is under way, for progress and interruptions.
const DOING: &str = "measuring speed";

/// Steps of one turn.
const STEPS: usize = 4;

/// Decode steps per second of both models, each over about `steps` steps behind single tokens of
/// `tokens`, of which there is at least one. They take turns: a shared machine changes its speed by the
/// second. The step of a prompt warms up and is not counted.
///
/// # Errors
/// [`Error::Option`] where there are no tokens; where a model refuses them; [`Error::Interrupted`].
pub fn decode_speeds(
    models: [&Model; 2],
    tokens: &[u32],
    steps: usize,
    progress: &ProgressSink,
) -> Result<[f64; 2], Error> {
    if tokens.is_empty() {
        let reason = "there are none to decode".to_owned();
        return Err(Error::Option { option: "tokens", reason });
    }
    let sampling = SamplingParams {
        temperature: 0.0,
        max_tokens: STEPS + 1,
        ignore_eos: true,
        ..SamplingParams::default()
    };
    let turns = steps.div_ceil(STEPS).max(1);
    let (mut counted, mut seconds) = ([0; 2], [0.0; 2]);
    for turn in 0..turns {
        let told = Progress::Working { doing: DOING, done: turn as u64, total: turns as u64 };
        if progress.report(told).is_break() {
            return Err(Error::Interrupted { doing: DOING });
        }
        for (i, model) in models.into_iter().enumerate() {
            let prompt = Prompt::Tokens(vec![tokens[turn * tokens.len() / turns]]);
            let request = Request { prompt, sampling: Some(sampling.clone()) };
            let mut times = Vec::new();
            let replies = model.batch_with([request], &mut |_, _| times.push(Instant::now()))?;
            replies.into_iter().collect::<Result<Vec<_>, _>>()?;
            if let (Some(first), Some(last)) = (times.first(), times.last()) {
                counted[i] += times.len() - 1;
                seconds[i] += (*last - *first).as_secs_f64();
            }
        }
    }
    Ok([0, 1].map(|i| counted[i] as f64 / f64::max(seconds[i], f64::MIN_POSITIVE)))
}
