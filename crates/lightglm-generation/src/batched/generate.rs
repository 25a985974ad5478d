//! `generate`: replies to many requests, over sequences that take the next request as soon as they
//! are free.
//!
//! Shapes: `R` rows of logits in a step, `V` vocab_size.

use std::collections::VecDeque;

use burn::tensor::backend::Backend;
use lightglm_core::{KvCache, LmError};
use lightglm_text::Detokenize;

use super::error::BatchError;
use super::reply_control::ReplyControl;
use super::slots::{BatchOptions, BatchSubject, Feed, Slots};
use crate::forward::ForwardError;
use crate::generation::Generation;
use crate::generation_error::GenerationError;
use crate::request::GenerationRequest;
use crate::run_control::RunControl;
use crate::sequence_run::SequenceRun;
use crate::step::{FinishReason, Step};

/// Generates all `requests`, [`BatchOptions::sequences`] at once, and returns their results in the
/// same order.
///
/// Every forward pass takes one token of each sequence that decodes, and prompt tokens of the others
/// as far as [`BatchOptions::tokens_per_step`] goes. A sequence that ends takes the next request and
/// keeps the tokens that both begin with. Each request gets the reply it would get alone: the same
/// tokens, text and log-probabilities.
///
/// A request's error (an empty prompt, a token out of range, a prompt longer than the cache, logits
/// that are not finite) is its own result; the others go on, unless
/// [`ReplyControl::stop_at_error`]. Once the stop flag of `control` is up, what has not ended yet
/// ends with [`FinishReason::Cancelled`] and the tokens that it has. Progress counts requests that
/// have ended; `control.rows_per_step` bounds the rows of logits of a step.
///
/// # Errors
/// [`BatchError::Cache`] and [`BatchError::TooLarge`], before anything is run.
pub fn generate<B: Backend, C: KvCache<B>, D: Detokenize>(
    subject: &mut BatchSubject<'_, B, C>,
    requests: Vec<GenerationRequest<D>>,
    options: &BatchOptions,
    replies: &mut ReplyControl<'_>,
    control: &mut RunControl<'_>,
) -> Result<Vec<Result<Generation, GenerationError>>, BatchError> {
    let vocab_size = subject.vocab_size();
    let mut results: Vec<Reply> = Vec::new();
    results.resize_with(requests.len(), || None);
    let mut waiting = VecDeque::new();
    for (request, asked) in requests.into_iter().enumerate() {
        match SequenceRun::new(asked, vocab_size) {
            Ok(run) => waiting.push_back(Running { request, run, steps: Vec::new() }),
            Err(error) => results[request] = Some(Err(error)),
        }
    }
    let ended = results.iter().flatten().count();
    let is_failed = ended > 0;
    let longest = waiting.iter().map(|running| running.run.positions()).max().unwrap_or(0);
    let slots = subject.slots(options, waiting.len(), longest)?;
    let active = (0..slots.count()).map(|_| None).collect();
    let mut batch =
        Batch { slots, vocab_size, waiting, active, results, ended, is_failed, replies };
    batch.run(options, control);
    let ended = |result: Reply| result.expect("the batch runs until every request has ended");
    Ok(batch.results.into_iter().map(ended).collect())
}

/// A request's result, once it has ended.
type Reply = Option<Result<Generation, GenerationError>>;

/// A slot, and how many tokens it may run.
type Share = (usize, usize);

/// A request that waits for a sequence, or runs in one.
struct Running<D> {
    request: usize,
    run: SequenceRun<D>,
    steps: Vec<Step>,
}

struct Batch<'a, 'r, 'c, B: Backend, C, D> {
    slots: Slots<'a, B, C>,
    vocab_size: usize,
    waiting: VecDeque<Running<D>>,
    /// What runs in each slot.
    active: Vec<Option<Running<D>>>,
    results: Vec<Reply>,
    /// Entries of `results` that are there.
    ended: usize,
    is_failed: bool,
    replies: &'r mut ReplyControl<'c>,
}

impl<B: Backend, C: KvCache<B>, D: Detokenize> Batch<'_, '_, '_, B, C, D> {
    fn run(&mut self, options: &BatchOptions, control: &mut RunControl<'_>) {
        let total = self.results.len();
        let mut told = 0;
        control.report(told, total);
        loop {
            if control.is_stopped() || (self.replies.stop_at_error && self.is_failed) {
                self.cancel_all();
            }
            self.end_cancelled();
            self.admit();
            let plan = self.plan(options.tokens_per_step.max(1), control.rows_per_step.max(1));
            self.advance(&plan);
            while told < self.ended {
                told += 1;
                control.report(told, total);
            }
            if plan.is_empty() {
                break;
            }
        }
    }

    fn cancel_all(&mut self) {
        let running = self.active.iter_mut().filter_map(Option::take);
        let unfinished: Vec<Running<D>> = running.chain(self.waiting.drain(..)).collect();
        for running in unfinished {
            self.end(running, FinishReason::Cancelled);
        }
    }

    fn end_cancelled(&mut self) {
        for slot in 0..self.active.len() {
            let cancelled = self.active[slot].take_if(|running| running.run.is_cancelled());
            if let Some(running) = cancelled {
                self.end(running, FinishReason::Cancelled);
            }
        }
    }

    /// Gives the free slots to the requests that wait, first come first served.
    fn admit(&mut self) {
        for slot in 0..self.active.len() {
            while self.active[slot].is_none() {
                let Some(mut running) = self.waiting.pop_front() else { return };
                if running.run.is_cancelled() {
                    self.end(running, FinishReason::Cancelled);
                    continue;
                }
                match self.slots.begin(slot, running.run.context()) {
                    Ok(held) => {
                        running.run.hold(held);
                        self.active[slot] = Some(running);
                    }
                    Err(error) => {
                        let error = ForwardError::Model(LmError::Cache(error));
                        self.settle(running.request, Err(error.into()));
                    }
                }
            }
        }
    }

    /// Who runs next: all that decode, then prompts, first come first served, while there are tokens
    /// and rows of logits left. Never nothing while a slot is taken.
    fn plan(&self, mut tokens: usize, mut rows: usize) -> Vec<Share> {
        let mut order: Vec<(usize, &Running<D>)> = Vec::with_capacity(self.active.len());
        order.extend(
            self.active.iter().enumerate().filter_map(|(i, place)| Some((i, place.as_ref()?))),
        );
        // A reply in progress asks for one token: it never waits for somebody's long prompt.
        order.sort_by_key(|(_, running)| (!running.run.is_decoding(), running.request));
        let mut plan = Vec::with_capacity(order.len());
        for (slot, running) in order {
            let (next, logits) = running.run.next(tokens);
            let wanted = logits.count(next.len());
            if next.is_empty() || wanted > rows {
                continue;
            }
            plan.push((slot, next.len()));
            tokens -= next.len();
            rows -= wanted;
        }
        plan
    }

    /// Runs the shares together; where they are refused, each by itself, to find out whose fault it
    /// is.
    fn advance(&mut self, plan: &[Share]) {
        if plan.is_empty() {
            return;
        }
        let feed = |&(slot, share): &Share| {
            let Running { request, run, .. } = self.active[slot].as_ref()?;
            let (tokens, logits) = run.next(share);
            let media = Some(run.media_of_next(tokens.len()));
            Some(Feed { slot, prompt: *request, tokens, logits, media })
        };
        let feeds: Vec<Feed<'_>> = plan.iter().filter_map(feed).collect();
        let wanted: Vec<usize> =
            feeds.iter().map(|feed| feed.logits.count(feed.tokens.len())).collect();
        match self.slots.forward(&feeds) {
            Ok(mut logits) => {
                let mut rows = logits.chunks_exact_mut(self.vocab_size);
                for (&share, wanted) in plan.iter().zip(wanted) {
                    let row = if wanted == 1 { rows.next() } else { None };
                    self.accept(share, row);
                }
            }
            // Nothing was run, so it can be tried again.
            Err(ForwardError::Model(_)) if plan.len() > 1 => {
                plan.iter().for_each(|&share| self.advance(&[share]));
            }
            Err(error) => plan.iter().for_each(|&(slot, _)| self.refuse(slot, &error)),
        }
    }

    /// Takes what a pass brought: the row `[V]` behind a prompt or a token, if it was wanted.
    fn accept(&mut self, (slot, share): Share, row: Option<&mut [f32]>) {
        let Some(mut running) = self.active[slot].take() else { return };
        running.run.note_run(share);
        if let Some(row) = row {
            match running.run.step(row) {
                Ok(step) => self.keep(&mut running, step),
                Err(error) => return self.settle(running.request, Err(error.into())),
            }
            if running.run.is_finished() {
                return self.finish(running);
            }
            let is_complete = self.replies.is_complete;
            if is_complete.is_some_and(|check| check(running.request, running.run.generated())) {
                return self.end(running, FinishReason::Complete);
            }
        }
        self.active[slot] = Some(running);
    }

    fn refuse(&mut self, slot: usize, error: &ForwardError) {
        let Some(running) = self.active[slot].take() else { return };
        if running.run.is_out_of_room(error) {
            self.end(running, FinishReason::Length);
        } else {
            self.settle(running.request, Err(error.clone().into()));
        }
    }

    /// Ends a request with a step that chooses no token.
    fn end(&mut self, mut running: Running<D>, reason: FinishReason) {
        let step = running.run.end(reason);
        self.keep(&mut running, step);
        self.finish(running);
    }

    fn keep(&mut self, running: &mut Running<D>, step: Step) {
        if let Some(on_step) = &mut self.replies.on_step {
            on_step(running.request, &step);
        }
        running.steps.push(step);
    }

    fn finish(&mut self, running: Running<D>) {
        self.settle(running.request, Ok(running.steps.into_iter().collect()));
    }

    fn settle(&mut self, request: usize, result: Result<Generation, GenerationError>) {
        self.ended += 1;
        self.is_failed |= result.is_err();
        self.results[request] = Some(result);
    }
}
