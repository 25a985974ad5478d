//! `SequenceRun`: one request on its way through model and cache.

use crate::{CancelToken, Continuation, FinishReason, LogitsProcessor, Step};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{CausalLm, KvCache, KvCacheError, LmError, LogitRows, SequenceId, Span};
use lightglm_text::Detokenize;

use crate::generation_error::GenerationError;
use crate::generator::PrefillProgress;
use crate::request::GenerationRequest;

/// A request on its way: what the model has run of it, and what came out.
pub(crate) struct SequenceRun<D> {
    sequence: SequenceId,
    /// Tokens to append.
    prompt: Vec<u32>,
    prompt_done: usize,
    cancel: CancelToken,
    reply: Continuation<D>,
}

impl<D: Detokenize> SequenceRun<D> {
    pub(crate) fn new(
        request: GenerationRequest<D>,
        vocab_size: usize,
    ) -> Result<Self, GenerationError> {
        let GenerationRequest { sequence, prompt, history, params, .. } = request;
        if prompt.is_empty() {
            return Err(GenerationError::EmptyPrompt);
        }
        let context = [&history[..], &prompt].concat();
        let (eos, detokenizer) = (request.eos_token_ids, request.detokenizer);
        let reply = Continuation::new(params, eos, context, vocab_size, detokenizer)?;
        Ok(Self { sequence, prompt, prompt_done: 0, cancel: request.cancel, reply })
    }

    pub(crate) fn generated(&self) -> &[u32] {
        self.reply.generated()
    }

    pub(crate) fn push_processor(&mut self, processor: Box<dyn LogitsProcessor>) {
        self.reply.push_processor(processor);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.reply.is_finished()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    pub(crate) fn is_decoding(&self) -> bool {
        self.prompt_done == self.prompt.len()
    }

    pub(crate) fn progress(&self) -> PrefillProgress {
        PrefillProgress { done: self.prompt_done, total: self.prompt.len() }
    }

    /// What the model runs next: at most `budget` prompt tokens, or the last chosen token.
    pub(crate) fn span(&self, budget: usize) -> Span<'_> {
        let sequence = self.sequence;
        let rest = &self.prompt[self.prompt_done..];
        if rest.is_empty() {
            let last = self.generated().last().map_or(&[][..], std::slice::from_ref);
            return Span { sequence, tokens: last, logits: LogitRows::Last };
        }
        let tokens = &rest[..budget.min(rest.len())];
        let is_last = tokens.len() == rest.len();
        let logits = if is_last { LogitRows::Last } else { LogitRows::None };
        Span { sequence, tokens, logits }
    }

    /// Notes that the model has run `span(budget)`.
    pub(crate) fn note_run(&mut self, budget: usize) {
        if !self.is_decoding() {
            self.prompt_done += self.span(budget).tokens.len();
        }
    }

    /// Whether a refused span means that the text has reached the end of the room, not an error.
    pub(crate) fn is_out_of_room(&self, error: &LmError) -> bool {
        let no_room =
            matches!(error, LmError::TooLong { .. } | LmError::Cache(KvCacheError::Full { .. }));
        no_room && self.is_decoding()
    }

    /// Chooses the next token from `logits: [V]`.
    pub(crate) fn step(&mut self, logits: &mut [f32]) -> Result<Step, GenerationError> {
        Ok(self.reply.step(logits)?)
    }

    /// The last step, which chooses no token.
    pub(crate) fn end(&mut self, reason: FinishReason) -> Step {
        self.reply.end(reason)
    }

    /// Stops without a step, after an error.
    pub(crate) fn abandon(&mut self) {
        self.reply.abandon();
    }
}

/// Runs `spans` and returns one `Vec` of logits per requested row.
pub(crate) fn run<B: Backend>(
    model: &dyn CausalLm<B>,
    cache: &mut dyn KvCache<B>,
    spans: &[Span<'_>],
) -> Result<Vec<Vec<f32>>, GenerationError> {
    let rows = spans.iter().map(|span| span.logits.count(span.tokens.len())).sum();
    let logits: Tensor<B, 2> = model.forward(spans, cache)?;
    let expected = [rows, model.vocab_size()];
    let actual = logits.dims();
    let flat: Vec<f32> = match rows {
        0 => Vec::new(),
        _ => logits.into_data().convert::<f32>().into_vec().unwrap_or_default(),
    };
    // A row without logits would leave the caller waiting for a token for ever.
    if actual != expected || flat.len() != rows * expected[1] || expected[1] == 0 {
        return Err(GenerationError::LogitsShape { expected, actual });
    }
    Ok(flat.chunks_exact(expected[1]).map(<[f32]>::to_vec).collect())
}
