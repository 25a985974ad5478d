//! `SequenceRun`: the state of one sequence being generated, apart from model and cache.

use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{CausalLm, KvCache, KvCacheError, LmError, LogitRows, Span};

use super::detokenize::Detokenize;
use super::error::GenerationError;
use super::logits_processor::TokenHistory;
use super::request::GenerationRequest;
use super::sampler::Sampler;
use super::step::{FinishReason, PrefillProgress, Step};
use super::stop_strings::StopStrings;

/// A request on its way: what the model has run of it, and what came out.
pub(super) struct SequenceRun<D> {
    request: GenerationRequest<D>,
    /// `request.history` and then `request.prompt`: what penalties call the prompt.
    context: Vec<u32>,
    sampler: Sampler,
    stop: StopStrings,
    prompt_done: usize,
    generated: Vec<u32>,
    finished: bool,
}

impl<D: Detokenize> SequenceRun<D> {
    pub(super) fn new(
        request: GenerationRequest<D>,
        vocab_size: usize,
    ) -> Result<Self, GenerationError> {
        if request.prompt.is_empty() {
            return Err(GenerationError::EmptyPrompt);
        }
        let sampler = Sampler::new(&request.params, &request.eos_token_ids, vocab_size)?;
        let stop = StopStrings::new(&request.params.stop);
        let context = [&request.history[..], &request.prompt].concat();
        let (prompt_done, generated, finished) = (0, Vec::new(), false);
        Ok(Self { request, context, sampler, stop, prompt_done, generated, finished })
    }

    pub(super) fn generated(&self) -> &[u32] {
        &self.generated
    }

    pub(super) fn sampler_mut(&mut self) -> &mut Sampler {
        &mut self.sampler
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.request.cancel.is_cancelled()
    }

    pub(super) fn is_decoding(&self) -> bool {
        self.prompt_done == self.request.prompt.len()
    }

    pub(super) fn progress(&self) -> PrefillProgress {
        PrefillProgress { done: self.prompt_done, total: self.request.prompt.len() }
    }

    /// What the model runs next: at most `budget` prompt tokens, or the last chosen token.
    pub(super) fn span(&self, budget: usize) -> Span<'_> {
        let sequence = self.request.sequence;
        let rest = &self.request.prompt[self.prompt_done..];
        if rest.is_empty() {
            let last = &self.generated[self.generated.len().saturating_sub(1)..];
            return Span { sequence, tokens: last, logits: LogitRows::Last };
        }
        let tokens = &rest[..budget.min(rest.len())];
        let is_last = tokens.len() == rest.len();
        let logits = if is_last { LogitRows::Last } else { LogitRows::None };
        Span { sequence, tokens, logits }
    }

    /// Notes that the model has run `span(budget)`.
    pub(super) fn note_run(&mut self, budget: usize) {
        if !self.is_decoding() {
            self.prompt_done += self.span(budget).tokens.len();
        }
    }

    /// Whether a refused span means that the text has reached the end of the room, not an error.
    pub(super) fn is_out_of_room(&self, error: &LmError) -> bool {
        let no_room =
            matches!(error, LmError::TooLong { .. } | LmError::Cache(KvCacheError::Full { .. }));
        no_room && self.is_decoding()
    }

    /// Chooses the next token from `logits: [V]`.
    pub(super) fn step(&mut self, logits: &mut [f32]) -> Result<Step, GenerationError> {
        let history = TokenHistory { prompt: &self.context, generated: &self.generated };
        let sampled = self.sampler.sample(history, logits)?;
        self.generated.push(sampled.token);
        let (text, finish) = self.text_of(sampled.token);
        self.finished = finish.is_some();
        let (token, logprob) = (Some(sampled.token), sampled.logprob);
        Ok(Step { token, logprob, top_logprobs: sampled.top_logprobs, text, finish })
    }

    /// The last step, which chooses no token.
    pub(super) fn end(&mut self, reason: FinishReason) -> Step {
        self.finished = true;
        let (text, finish) = self.flush(String::new(), reason);
        Step { token: None, logprob: None, top_logprobs: Vec::new(), text, finish: Some(finish) }
    }

    /// Stops without a step, after an error.
    pub(super) fn abandon(&mut self) {
        self.finished = true;
    }

    fn text_of(&mut self, token: u32) -> (String, Option<FinishReason>) {
        let params = &self.request.params;
        let reason = if self.request.eos_token_ids.contains(&token) && !params.ignore_eos {
            Some(FinishReason::Eos)
        } else if params.stop_token_ids.contains(&token) {
            Some(FinishReason::StopToken)
        } else {
            None
        };
        if let Some(reason) = reason {
            let (text, finish) = self.flush(String::new(), reason);
            return (text, Some(finish));
        }
        let piece = self.request.detokenizer.push(token).unwrap_or_default();
        let (text, stopped) = self.search(&piece);
        if stopped {
            return (text, Some(FinishReason::StopString));
        }
        if self.generated.len() >= self.request.params.max_tokens {
            let (text, finish) = self.flush(text, FinishReason::Length);
            return (text, Some(finish));
        }
        (text, None)
    }

    fn search(&mut self, piece: &str) -> (String, bool) {
        if self.generated.len() <= self.request.params.min_tokens
            && self.request.params.min_tokens > 0
        {
            return (piece.to_owned(), false);
        }
        let found = self.stop.push(piece);
        (found.text, found.stopped.is_some())
    }

    /// Adds what detokenizer and stop strings still hold back to `text`.
    fn flush(&mut self, mut text: String, reason: FinishReason) -> (String, FinishReason) {
        let piece = self.request.detokenizer.finish().unwrap_or_default();
        let (last, stopped) = self.search(&piece);
        text += &last;
        if stopped {
            return (text, FinishReason::StopString);
        }
        text += &self.stop.finish();
        (text, reason)
    }
}

/// Runs `spans` and returns one `Vec` of logits per requested row.
pub(super) fn run<B: Backend>(
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
