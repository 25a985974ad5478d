//! `Workload`: a prompt and decode steps, timed beside the machine's roofs.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Tensor;
use lightglm_core::{CausalLm, KvDtype, LogitRows, SequenceId, Span};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_kernels::cpu::roofs::{ReadStream, f32_fma_gflops, int8_dot_gops, read_bandwidth_gbs};
use lightglm_model::config::GlmConfig;

use super::costs::{kv_bytes_read, prefill_flops};
use crate::error::Error;
use crate::model::{CacheOptions, LanguageModel, Loaded};
use crate::progress::ProgressSink;

/// Bytes read after each decode step to measure the bandwidth: well beyond a last-level cache.
pub(super) const ROOF_BYTES: usize = 256 << 20;

/// Decode steps that are not counted.
pub(super) const WARM_UP: usize = 2;

/// Tokens that choose the neurons of what is decoded.
const CHOOSING: usize = 128;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Tokens of the prompt; 0 skips it.
    pub prefill: usize,
    /// Decode steps; 0 skips them.
    pub decode: usize,
    /// Positions that each sequence holds before the first decode step that counts.
    pub depth: usize,
    /// Sequences decoded together, at least 1.
    pub batch: usize,
    /// Prompts, at least 1; the median counts.
    pub repetitions: usize,
    /// Threads that the machine's roofs are measured with.
    pub threads: usize,
}

impl Workload {
    /// Positions that the longest sequence reaches, steps that are not counted included.
    pub(super) fn positions(&self) -> usize {
        self.prefill.max(self.depth + self.decode + WARM_UP).max(CHOOSING)
    }
}

/// A model to be timed.
pub struct Subject<B: LmBackend> {
    /// The model.
    pub loaded: Loaded<B>,
    /// Its configuration.
    pub config: GlmConfig,
    /// How keys and values are held.
    pub kv_dtype: KvDtype,
    /// Positions that a decode step attends to at most, in all layers but the first two.
    pub kv_budget: Option<usize>,
    /// Bytes of weights that a token does without, on average.
    pub skipped_bytes: usize,
}

/// What a workload took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// The machine's, in GB/s.
    pub read_bandwidth_gbs: f64,
    /// The machine's, in GFLOP/s.
    pub f32_gflops: f64,
    /// The machine's, in GOP/s.
    pub int8_gops: f64,
    /// Of all sequences together.
    pub decode_tokens_per_s: Option<f64>,
    /// Weights, keys and values that a step must read.
    pub decode_bytes_per_step: usize,
    /// Of the read bandwidth.
    pub decode_fraction_of_bandwidth: Option<f64>,
    /// Of the prompt.
    pub prefill_tokens_per_s: Option<f64>,
    /// Of the multiply-add peak.
    pub prefill_fraction_of_compute: Option<f64>,
    /// Of the int8 dot product's peak, for models that multiply integers.
    pub prefill_fraction_of_int8: Option<f64>,
}

impl<B: LmBackend> Subject<B> {
    /// Times `workload`. Where each prompt chooses its neurons, a prompt's time contains the choice,
    /// and what is decoded runs the choice of 128 tokens.
    ///
    /// # Errors
    /// [`Error::Option`] for a batch or repetitions of 0, and for neurons of a prompt in a batch; where
    /// the model refuses the tokens; [`Error::Interrupted`].
    pub fn measure(&self, workload: &Workload, progress: &ProgressSink) -> Result<Speeds, Error> {
        let wrong = |option, reason: &str| Err(Error::Option { option, reason: reason.to_owned() });
        if workload.batch == 0 {
            return wrong("batch", "must be at least 1");
        }
        if workload.repetitions == 0 {
            return wrong("repetitions", "must be at least 1");
        }
        if workload.batch > 1 && self.loaded.prompt_neurons.is_some() {
            return wrong("batch", "neurons chosen by a prompt are for one sequence at a time");
        }
        progress.working("measuring the machine", 0, 1)?;
        let mut int8_gops = vec![int8_dot_gops(workload.threads)];
        let mut f32_gflops = vec![f32_fma_gflops(workload.threads)];
        let mut seconds = Vec::new();
        if workload.prefill > 0 {
            // Once to warm up.
            self.prefill(workload.prefill)?;
            (f32_gflops, int8_gops) = (Vec::new(), Vec::new());
            for done in 0..workload.repetitions {
                let total = workload.repetitions as u64;
                progress.working("measuring prefill", done as u64, total)?;
                seconds.push(self.prefill(workload.prefill)?);
                f32_gflops.push(f32_fma_gflops(workload.threads));
                int8_gops.push(int8_dot_gops(workload.threads));
            }
        }
        let prefill = (!seconds.is_empty()).then(|| median(seconds));
        let (f32_gflops, int8_gops) = (median(f32_gflops), median(int8_gops));
        progress.working("measuring decode", 0, 1)?;
        let model = self.decoding()?;
        let (step, read_bandwidth_gbs) = match workload.decode {
            0 => (None, read_bandwidth_gbs(workload.threads)),
            _ => {
                let (step, bandwidth) = self.decode(&*model, workload)?;
                (Some(step), bandwidth)
            }
        };
        progress.working("measuring decode", 1, 1)?;
        let bytes = self.bytes_per_step(&*model, workload);
        let gflops = prefill_flops(&self.config, workload.prefill) / 1e9;
        let integer = self.loaded.integer;
        Ok(Speeds {
            read_bandwidth_gbs,
            f32_gflops,
            int8_gops,
            decode_tokens_per_s: step.map(|s| workload.batch as f64 / s),
            decode_bytes_per_step: bytes,
            decode_fraction_of_bandwidth: step.map(|s| bytes as f64 / s / 1e9 / read_bandwidth_gbs),
            prefill_tokens_per_s: prefill.map(|s| workload.prefill as f64 / s),
            prefill_fraction_of_compute: prefill.map(|s| gflops / s / f32_gflops),
            prefill_fraction_of_int8: prefill.filter(|_| integer).map(|s| gflops / s / int8_gops),
        })
    }

    /// What a step reads in the middle of the workload.
    fn bytes_per_step(&self, model: &dyn LanguageModel<B>, workload: &Workload) -> usize {
        let Workload { decode, depth, batch, .. } = *workload;
        // What several sequences leave out together is not known.
        let skipped = if batch == 1 { self.skipped_bytes } else { 0 };
        let positions = depth + decode / 2 + 1;
        let a_sequence = kv_bytes_read(&self.config, self.kv_dtype, self.kv_budget, positions);
        model.bytes_read(batch) - skipped + batch * a_sequence
    }

    fn cache(&self, batch: usize, positions: usize) -> ContiguousKvCache<B> {
        let options = CacheOptions::of(&self.config, self.kv_dtype, self.kv_budget);
        options.cache(batch, positions, &self.loaded.device)
    }

    /// Seconds for a prompt of `tokens` tokens, logits of the last row.
    pub(super) fn prefill(&self, tokens: usize) -> Result<f64, Error> {
        let mut cache = self.cache(1, tokens);
        let ids: Vec<u32> = (0..tokens).map(|i| self.token(i)).collect();
        let span = Span::text(SequenceId(0), &ids, LogitRows::Last);
        let start = Instant::now();
        match &self.loaded.prompt_neurons {
            None => finish(&self.loaded.model.forward(&[span], &mut cache)?),
            Some(neurons) => {
                let conversation = neurons.conversation();
                conversation.begin_prompt(tokens);
                finish(&conversation.forward(&[span], &mut cache)?);
                conversation.take_failure().map_or(Ok(()), Err)?;
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// The model that decode steps run.
    fn decoding(&self) -> Result<Arc<dyn LanguageModel<B>>, Error> {
        let Some(neurons) = &self.loaded.prompt_neurons else {
            return Ok(Arc::clone(&self.loaded.model));
        };
        let conversation = neurons.conversation();
        conversation.begin_prompt(CHOOSING);
        let ids: Vec<u32> = (0..CHOOSING).map(|i| self.token(i)).collect();
        let span = Span::text(SequenceId(0), &ids, LogitRows::Last);
        conversation.forward(&[span], &mut self.cache(1, CHOOSING))?;
        conversation.take_failure().map_or(Ok(()), Err)?;
        Ok(Arc::new(conversation))
    }

    /// Mean seconds of a decode step, and the mean read bandwidth in GB/s between the steps.
    fn decode(
        &self,
        model: &dyn LanguageModel<B>,
        workload: &Workload,
    ) -> Result<(f64, f64), Error> {
        let Workload { decode: steps, depth, batch, .. } = *workload;
        let stream = ReadStream::new(ROOF_BYTES);
        let mut cache = self.cache(batch, depth + steps + WARM_UP);
        if depth > 0 {
            cache.fill_random(depth)?;
        }
        let (mut model_seconds, mut roof_seconds) = (0.0, 0.0);
        for step in 0..steps + WARM_UP {
            let ids: Vec<u32> = (0..batch).map(|i| self.token(step * 31 + i)).collect();
            let span = |i| Span::text(SequenceId(i), &ids[i..=i], LogitRows::Last);
            let spans: Vec<Span<'_>> = (0..batch).map(span).collect();
            let start = Instant::now();
            finish(&model.forward(&spans, &mut cache)?);
            let seconds = start.elapsed().as_secs_f64();
            let roof = stream.read();
            if step >= WARM_UP {
                model_seconds += seconds;
                roof_seconds += roof;
            }
        }
        let roof_bytes = (steps * stream.size_in_bytes()) as f64;
        Ok((model_seconds / steps as f64, roof_bytes / roof_seconds / 1e9))
    }

    fn token(&self, i: usize) -> u32 {
        (i * 7919 % self.config.vocab_size) as u32
    }
}

/// Waits for the device.
pub(super) fn finish<B: LmBackend>(logits: &Tensor<B, 2>) {
    let [rows, _] = logits.dims();
    if rows > 0 {
        let _ = logits.clone().narrow(1, 0, 1).into_data();
    }
}

/// The middle of `values`, of which there is at least one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
