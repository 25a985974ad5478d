//! `PromptNeurons`: one conversation whose prompts choose the neurons that replies run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use lightglm_core::{CausalLm, KvCache, Linear, LmError, Span};
use lightglm_kernels::LmBackend;
use lightglm_quant::{QuantizedEmbedding, QuantizedLinear};
use lightglm_sparse::NeuronStatistics;

use super::griffin::{CompactGlm, RecordingGlm, compact, down_by_channels, recording};
use crate::error::Error;
use crate::model::{LanguageModel, QuantizedGlm};

type Recording<B> = RecordingGlm<B, QuantizedLinear<B>, QuantizedEmbedding<B>>;
type Compact<B> = CompactGlm<B, QuantizedLinear<B>, QuantizedEmbedding<B>>;

/// A model whose prompts choose their neurons (GRIFFIN), to make conversations of. Clones share the
/// weights.
#[derive(Clone)]
pub struct PromptNeurons<B: LmBackend> {
    model: Arc<QuantizedGlm<B>>,
    keep: f64,
}

impl<B: LmBackend> PromptNeurons<B> {
    /// Each prompt keeps the fraction `keep` of the neurons of `model`, above 0 and at most 1.
    pub fn new(model: QuantizedGlm<B>, keep: f64) -> Self {
        Self { model: Arc::new(down_by_channels(model)), keep }
    }

    /// The whole model: what prompts run on.
    pub fn whole(&self) -> Arc<dyn LanguageModel<B>> {
        self.model.clone()
    }

    /// A model for one conversation; its prompts are announced by [`PromptNeuronsLm::begin_prompt`].
    pub fn conversation(&self) -> PromptNeuronsLm<B> {
        let state = State { left: 0, phase: Phase::Whole, failed: None };
        PromptNeuronsLm { source: self.clone(), state: Mutex::new(state) }
    }
}

impl<B: LmBackend> fmt::Debug for PromptNeurons<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromptNeurons").field("keep", &self.keep).finish_non_exhaustive()
    }
}

/// The model of one conversation: it runs announced prompts whole, chooses their neurons at their
/// end, and runs what follows on these alone. One cache serves both.
pub struct PromptNeuronsLm<B: LmBackend> {
    source: PromptNeurons<B>,
    state: Mutex<State<B>>,
}

struct State<B: LmBackend> {
    /// Tokens of the prompt that are yet to come.
    left: usize,
    phase: Phase<B>,
    failed: Option<Error>,
}

enum Phase<B: LmBackend> {
    /// Nothing was announced, or no neurons could be chosen.
    Whole,
    /// A prompt comes, in any number of chunks.
    Prompt { model: Recording<B>, statistics: Arc<NeuronStatistics> },
    /// Its reply.
    Reply(Compact<B>),
}

impl<B: LmBackend> PromptNeuronsLm<B> {
    /// Announces a prompt: of what the model is given from now on the first `tokens` tokens are the
    /// prompt, in any number of chunks. What is left of an earlier one is forgotten.
    pub fn begin_prompt(&self, tokens: usize) {
        let statistics = Arc::new(NeuronStatistics::default());
        let model = recording(&self.source.model, &statistics);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { left: tokens, phase: Phase::Prompt { model, statistics }, failed: None };
    }

    /// Why no neurons could be chosen for the last prompt, where that is so; a forward pass cannot say
    /// it. Asked once, it is forgotten.
    pub fn take_failure(&self) -> Option<Error> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.take()
    }
}

impl<B: LmBackend> State<B> {
    /// Notes that `tokens` tokens were run; at the end of the prompt the neurons are chosen.
    fn advance(&mut self, tokens: usize, source: &PromptNeurons<B>) {
        let Phase::Prompt { statistics, .. } = &self.phase else { return };
        self.left = self.left.saturating_sub(tokens);
        if self.left > 0 {
            return;
        }
        let neurons = statistics.strongest(source.keep).map_err(Error::from);
        self.phase = match neurons.and_then(|neurons| compact(&*source.model, &neurons)) {
            Ok(model) => Phase::Reply(model),
            Err(error) => {
                self.failed = Some(error);
                Phase::Whole
            }
        };
    }
}

impl<B: LmBackend> CausalLm<B> for PromptNeuronsLm<B> {
    fn vocab_size(&self) -> usize {
        self.source.model.vocab_size()
    }

    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
    ) -> Result<Tensor<B, 2>, LmError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let logits = match &state.phase {
            Phase::Whole => self.source.model.forward(spans, cache),
            Phase::Prompt { model, .. } => model.forward(spans, cache),
            Phase::Reply(model) => model.forward(spans, cache),
        }?;
        state.advance(spans.iter().map(|span| span.tokens.len()).sum(), &self.source);
        Ok(logits)
    }
}

impl<B: LmBackend> LanguageModel<B> for PromptNeuronsLm<B> {
    /// Of what runs next. The inputs of `down_proj` that were not chosen are not read.
    fn bytes_read(&self, rows: usize) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.phase {
            Phase::Whole => self.source.model.bytes_read(rows),
            Phase::Prompt { model, .. } => model.bytes_read(rows),
            Phase::Reply(model) => {
                let mut left_out = 0;
                model.for_each_linear(|_, linear| {
                    let ([_, chosen], [_, all]) = (linear.shape(), linear.inner.shape());
                    left_out += linear.bytes_read() / all.max(1) * (all - chosen);
                });
                model.bytes_read(rows) - left_out
            }
        }
    }
}

impl<B: LmBackend> fmt::Debug for PromptNeuronsLm<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromptNeuronsLm").field("source", &self.source).finish_non_exhaustive()
    }
}
