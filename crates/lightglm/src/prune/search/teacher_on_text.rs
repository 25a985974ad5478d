//! A teacher on a text: its blocks' residual streams, and how far others are from what it says.
//!
//! Shapes: `T` rows of a window, `D` hidden_size, `V` vocab_size.

use burn::tensor::Tensor;
use lightglm_core::{Embedding, Linear};
use lightglm_distill::{Divergence, TeacherRows};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_quant::Policy;

use super::options::SearchOptions;
use crate::error::Error;
use crate::model::{QuantizedBlock, QuantizedGlm, alone, quantize_source, run_alone};

/// Rows whose logits are held at a time, of either model.
const ROWS: usize = 64;

/// The text as the models see it: windows, each behind what the tokenizer puts in front of every text.
pub(super) fn windows(checkpoint: &Checkpoint, options: &SearchOptions) -> Vec<Vec<u32>> {
    // A folder without a tokenizer has nothing in front.
    let front = checkpoint.tokenizer().map(|tokenizer| tokenizer.front().to_vec());
    let front = front.unwrap_or_default();
    options.calibration.chunks(options.context).map(|window| [&front, window].concat()).collect()
}

/// A teacher, and where its residual stream ends in each window.
pub(super) struct TeacherOnText<'a, B: LmBackend> {
    pub(super) model: QuantizedGlm<B>,
    config: &'a GlmConfig,
    windows: Vec<Vec<u32>>,
    /// `[T, D]` behind the last norm.
    targets: Vec<Tensor<B, 2>>,
}

impl<'a, B: LmBackend> TeacherOnText<'a, B> {
    /// Loads the model of `checkpoint` as it is stored, and runs it on the text.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        options: &SearchOptions,
        device: &B::Device,
    ) -> Result<Self, Error> {
        let (config, nothing) = (checkpoint.config(), Policy::new([])?);
        let (weights, file) = (checkpoint.weights(), checkpoint.path());
        let progress = &options.progress;
        let model = quantize_source(config, weights, file, &nothing, progress, device)?.model;
        let (windows, targets) = (windows(checkpoint, options), Vec::new());
        let mut teacher = Self { model, config, windows, targets };
        let total = teacher.windows.len() as u64;
        for (stream, done) in teacher.streams(&teacher.model).into_iter().zip(1..) {
            let end = teacher.run(teacher.model.layers.clone(), &stream)?;
            teacher.targets.push(teacher.model.norm.forward(end));
            progress.working("running the teacher", done, total)?;
        }
        Ok(teacher)
    }

    /// What enters the first block of `model`, for each window.
    pub(super) fn streams(&self, model: &QuantizedGlm<B>) -> Vec<Tensor<B, 2>> {
        self.windows.iter().map(|window| model.embed_tokens.forward(window)).collect()
    }

    /// What leaves the last of `layers`: `[T, D] -> [T, D]`.
    pub(super) fn run(
        &self,
        layers: Vec<QuantizedBlock<B>>,
        stream: &Tensor<B, 2>,
    ) -> Result<Tensor<B, 2>, Error> {
        run_alone(&alone(&self.model, layers, stream.clone()), self.config)
    }

    /// The mean KL divergence over all rows, in nats, of the model that runs `layers` on `streams` and ends with the
    /// norm and the head of `head`.
    pub(super) fn divergence(
        &self,
        layers: &[QuantizedBlock<B>],
        streams: &[Tensor<B, 2>],
        head: &QuantizedGlm<B>,
    ) -> Result<f64, Error> {
        let (mut sum, mut rows) = (0.0, 0);
        for (stream, target) in streams.iter().zip(&self.targets) {
            let end = head.norm.forward(self.run(layers.to_vec(), stream)?);
            let [count, _] = target.dims();
            for start in (0..count).step_by(ROWS) {
                let length = ROWS.min(count - start);
                let part = |rows: &Tensor<B, 2>| rows.clone().narrow(0, start, length);
                let (p, vocab_size) = logits(&self.model, part(target));
                let (q, _) = logits(head, part(&end));
                let p = TeacherRows::logits(p, vocab_size)?;
                let losses = Divergence::ForwardKl.losses(&p, &q, 1.0)?;
                sum += losses.into_iter().map(f64::from).sum::<f64>();
            }
            rows += count;
        }
        Ok(sum / rows as f64)
    }
}

/// Row-major, and the width of a row.
fn logits<B: LmBackend>(model: &QuantizedGlm<B>, rows: Tensor<B, 2>) -> (Vec<f32>, usize) {
    let logits = match &model.lm_head {
        Some(head) => head.forward(rows),
        None => model.embed_tokens.project(rows),
    };
    let [_, vocab_size] = logits.dims();
    (logits.into_data().convert::<f32>().into_vec().unwrap_or_default(), vocab_size)
}
