//! How long one decoder block takes to decode a token.

use std::path::Path;
use std::time::Instant;

use lightglm_core::{CausalLm, KvDtype, KvShape, LogitRows, SequenceId, Span, WeightDtype};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::cpu::roofs::ReadStream;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::SeededWeights;
use lightglm_quant::Policy;

use super::workload::{ROOF_BYTES, WARM_UP, finish, median};
use crate::device::Cpu;
use crate::error::Error;
use crate::model::quantize_source;
use crate::progress::ProgressSink;

/// One block of random weights that decodes a token of one sequence, on the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockLatency<'a> {
    /// The model that the block is of; one block of it is built.
    pub(crate) config: &'a GlmConfig,
    /// What stays dense has this precision.
    pub(crate) dense: WeightDtype,
    /// The schemes.
    pub(crate) policy: &'a Policy,
    /// Positions that the token looks back on; keys and values are bf16.
    pub(crate) depth: usize,
    /// Steps, at least 1; the median counts.
    pub(crate) repetitions: usize,
}

/// Milliseconds of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepMilliseconds {
    /// Of the block, a row of the table and two norms.
    pub(crate) without_head: f64,
    /// The same and the head.
    pub(crate) with_head: f64,
}

impl BlockLatency<'_> {
    /// Between two steps the caches are read full of something else, as the other blocks of a model would.
    ///
    /// # Errors
    /// Where the policy does not fit the block.
    pub(crate) fn measure(&self) -> Result<StepMilliseconds, Error> {
        let steps = 2 * (self.repetitions + WARM_UP);
        let needed = self.depth + steps;
        let config = GlmConfig {
            num_hidden_layers: 1,
            max_position_embeddings: self.config.max_position_embeddings.max(needed),
            ..self.config.clone()
        };
        let (device, file) = (Default::default(), Path::new("random weights"));
        let weights = SeededWeights::new(config.clone(), self.dense, 0);
        let silent = ProgressSink::default();
        let model =
            quantize_source::<Cpu>(&config, &weights, file, self.policy, &silent, &device)?.model;
        let shape = KvShape::of(&config);
        let mut cache = ContiguousKvCache::new(shape, 1, needed, KvDtype::Bf16, &device);
        if self.depth > 0 {
            cache.fill_random(self.depth)?;
        }
        let stream = ReadStream::new(ROOF_BYTES);
        let mut milliseconds = [Vec::new(), Vec::new()];
        for step in 0..steps {
            let logits = if step % 2 == 0 { LogitRows::None } else { LogitRows::Last };
            let tokens = [(step * 7919 % config.vocab_size) as u32];
            let span = Span::text(SequenceId(0), &tokens, logits);
            stream.read();
            let start = Instant::now();
            finish(&model.forward(&[span], &mut cache)?);
            let taken = start.elapsed().as_secs_f64() * 1e3;
            if step >= 2 * WARM_UP {
                milliseconds[step % 2].push(taken);
            }
        }
        let [without_head, with_head] = milliseconds.map(median);
        Ok(StepMilliseconds { without_head, with_head })
    }
}
