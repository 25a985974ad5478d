//! How fast models are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lightglm_core::{CausalLm, KvDtype, KvShape, LogitRows, SequenceId, Span};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;

use crate::error::Error;

/// Decode steps per second of both models on `tokens` (one at least, repeated where they are few), one
/// sequence of `steps` steps from an empty f32 cache. They take turns: a shared machine changes its
/// speed by the second.
///
/// # Errors
/// Where there are no tokens or a model refuses them, and where `stop` is raised.
pub fn decode_speeds<B: LmBackend>(
    models: [&dyn CausalLm<B>; 2],
    config: &GlmConfig,
    tokens: &[u32],
    steps: usize,
    stop: &AtomicBool,
    device: &B::Device,
) -> Result<[f64; 2], Error> {
    if tokens.is_empty() {
        let reason = "there are none to decode".to_owned();
        return Err(Error::Option { option: "tokens", reason });
    }
    let steps = steps.min(config.max_position_embeddings - 1);
    let cache =
        |_| ContiguousKvCache::<B>::new(KvShape::of(config), 1, steps + 1, KvDtype::F32, device);
    let mut caches = [0; 2].map(cache);
    let mut seconds = [0.0; 2];
    for step in 0..=steps {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted { doing: "measuring speed" });
        }
        for (i, model) in models.iter().enumerate() {
            let token = [tokens[step % tokens.len()]];
            let span = Span { sequence: SequenceId(0), tokens: &token, logits: LogitRows::Last };
            let start = Instant::now();
            let logits = model.forward(&[span], &mut caches[i])?;
            let _ = logits.narrow(1, 0, 1).into_data();
            // The first step warms up.
            if step > 0 {
                seconds[i] += start.elapsed().as_secs_f64();
            }
        }
    }
    Ok(seconds.map(|seconds| steps as f64 / seconds))
}
