//! `generate_batch`: several sequences at once.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use crate::{FinishReason, Step};
use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvCache, LmError, LogitRows, Span};
use lightglm_text::Detokenize;

use crate::generation_error::GenerationError;
use crate::request::GenerationRequest;
use crate::sequence_run::{SequenceRun, run};

/// A finished sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The chosen tokens, an end-of-sequence or stop token included.
    pub tokens: Vec<u32>,
    /// The text, without stop strings.
    pub text: String,
    /// Every step, with its log-probabilities.
    pub steps: Vec<Step>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// Generates all `requests` together and returns their results in the same order.
///
/// Every forward pass takes one token of each sequence that decodes, and prompt tokens of the others
/// up to `prefill_chunk` rows in all; a sequence leaves the batch when it ends. Each gets the tokens
/// it would get alone. `on_step` is told the request's index and its step as it comes.
///
/// One request's error (an empty prompt, a token out of range, a prompt longer than the cache) is its
/// own result; the others go on.
pub fn generate_batch<B: Backend, D: Detokenize>(
    model: &dyn CausalLm<B>,
    cache: &mut dyn KvCache<B>,
    requests: Vec<GenerationRequest<D>>,
    prefill_chunk: NonZeroUsize,
    on_step: &mut dyn FnMut(usize, &Step),
) -> Vec<Result<Generation, GenerationError>> {
    let mut seen = HashSet::new();
    let slots = requests.into_iter().map(|request| {
        let sequence = request.sequence;
        if !seen.insert(sequence) {
            return Slot::failed(GenerationError::Model(LmError::RepeatedSequence(sequence)));
        }
        match SequenceRun::new(request, model.vocab_size()) {
            Ok(run) => Slot { run: Some(run), steps: Vec::new(), error: None },
            Err(error) => Slot::failed(error),
        }
    });
    let mut batch = Batch { model, cache, slots: slots.collect(), on_step };
    loop {
        batch.end_cancelled();
        let plan = batch.plan(prefill_chunk.get());
        if plan.is_empty() {
            break;
        }
        batch.advance(&plan);
    }
    batch.slots.into_iter().map(Slot::into_generation).collect()
}

/// One request, from start to result.
struct Slot<D> {
    /// `None` where the request was refused before it began.
    run: Option<SequenceRun<D>>,
    steps: Vec<Step>,
    error: Option<GenerationError>,
}

impl<D: Detokenize> Slot<D> {
    fn failed(error: GenerationError) -> Self {
        Self { run: None, steps: Vec::new(), error: Some(error) }
    }

    fn active(&self) -> Option<&SequenceRun<D>> {
        self.run.as_ref().filter(|run| !run.is_finished())
    }

    fn fail(&mut self, error: GenerationError) {
        self.error = Some(error);
        if let Some(run) = &mut self.run {
            run.abandon();
        }
    }

    fn into_generation(self) -> Result<Generation, GenerationError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let tokens = self.steps.iter().filter_map(|step| step.token).collect();
        let text = self.steps.iter().map(|step| step.text.as_str()).collect();
        let finish = self.steps.last().and_then(|step| step.finish);
        // A slot without error has been run to a step that finishes it.
        let finish = finish.unwrap_or(FinishReason::Length);
        Ok(Generation { tokens, text, steps: self.steps, finish })
    }
}

struct Batch<'a, B: Backend, D> {
    model: &'a dyn CausalLm<B>,
    cache: &'a mut dyn KvCache<B>,
    slots: Vec<Slot<D>>,
    on_step: &'a mut dyn FnMut(usize, &Step),
}

/// A slot and how many rows it may run.
type Share = (usize, usize);

impl<B: Backend, D: Detokenize> Batch<'_, B, D> {
    fn end_cancelled(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].active().is_some_and(SequenceRun::is_cancelled) {
                self.end(index, FinishReason::Cancelled);
            }
        }
    }

    /// Who runs next: all that decode, then prompts, first come first served, while rows are left.
    fn plan(&self, rows: usize) -> Vec<Share> {
        let active = |&index: &usize| self.slots[index].active().is_some();
        let decodes =
            |&index: &usize| self.slots[index].active().is_some_and(SequenceRun::is_decoding);
        let indices = || (0..self.slots.len()).filter(active);
        let mut plan: Vec<Share> = indices().filter(decodes).map(|index| (index, 1)).collect();
        // At least one row, so that prompts cannot starve behind many decoding sequences.
        let mut left = rows.saturating_sub(plan.len()).max(1);
        for index in indices().filter(|index| !decodes(index)) {
            let Some(run) = self.slots[index].active() else { continue };
            let share = run.span(left).tokens.len();
            plan.push((index, share));
            left -= share;
            if left == 0 {
                break;
            }
        }
        plan
    }

    /// Runs one batch; where it is refused, each share by itself, to find out whose fault it is.
    fn advance(&mut self, plan: &[Share]) {
        let spans = plan
            .iter()
            .filter_map(|&(index, share)| self.slots[index].active().map(|run| run.span(share)));
        let spans: Vec<Span<'_>> = spans.collect();
        let wants_row: Vec<bool> = spans.iter().map(|s| s.logits == LogitRows::Last).collect();
        match run(self.model, self.cache, &spans) {
            Ok(rows) => {
                let mut rows = rows.into_iter();
                for (&share, wants_row) in plan.iter().zip(wants_row) {
                    let row = if wants_row { rows.next() } else { None };
                    self.accept(share, row);
                }
            }
            Err(error) if plan.len() == 1 => self.refuse(plan[0].0, error),
            Err(_) => plan.iter().for_each(|&share| self.advance(&[share])),
        }
    }

    fn accept(&mut self, (index, share): Share, row: Option<Vec<f32>>) {
        let Some(run) = &mut self.slots[index].run else { return };
        run.note_run(share);
        let Some(mut logits) = row else { return };
        match run.step(&mut logits) {
            Ok(step) => self.keep(index, step),
            Err(error) => self.slots[index].fail(error),
        }
    }

    fn refuse(&mut self, index: usize, error: GenerationError) {
        let out_of_room = match (&error, self.slots[index].active()) {
            (GenerationError::Model(error), Some(run)) => run.is_out_of_room(error),
            _ => false,
        };
        if out_of_room {
            self.end(index, FinishReason::Length);
        } else {
            self.slots[index].fail(error);
        }
    }

    fn end(&mut self, index: usize, reason: FinishReason) {
        if let Some(run) = &mut self.slots[index].run {
            let step = run.end(reason);
            self.keep(index, step);
        }
    }

    fn keep(&mut self, index: usize, step: Step) {
        (self.on_step)(index, &step);
        self.slots[index].steps.push(step);
    }
}
