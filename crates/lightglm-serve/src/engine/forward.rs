//! One forward pass: blocks, rows, tokens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn::tensor::backend::Backend;
use lightglm_core::{KvCacheError, LmError, SequenceId, Span};
use lightglm_generation::FinishReason;

use super::active::{Active, Share};
use super::core::Engine;
use super::event::{EngineError, Event};
use crate::kv::ServingCache;

/// Rows of logits of one share, `[rows, V]`, or why there are none.
type Rows = Result<Vec<f32>, LmError>;

impl<B: Backend, C: ServingCache<B>> Engine<B, C> {
    /// Runs `shares` and hands out what came of them.
    pub(super) fn run(&mut self, shares: Vec<Share>) {
        let shares = self.reserve(shares);
        if shares.is_empty() {
            return;
        }
        let decode_rows: usize =
            shares.iter().filter(|s| s.decodes).map(|share| share.tokens.len()).sum();
        let prompt_tokens: usize =
            shares.iter().filter(|s| !s.decodes).map(|share| share.tokens.len()).sum();
        self.stats.steps += 1;
        self.stats.sequences += shares.len() as u64;
        let start = Instant::now();
        let results = self.forward(&shares);
        let took = start.elapsed();
        self.note_step(decode_rows, prompt_tokens, took);
        let mut ended = Vec::new();
        for (share, rows) in shares.into_iter().zip(results) {
            let index = share.index;
            if self.accept(share, rows) {
                ended.push(index);
            }
        }
        // From the last, so that indices stay what they are.
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            self.retire(index);
        }
    }

    /// Makes room for every share; where blocks run out, somebody gives way.
    fn reserve(&mut self, mut shares: Vec<Share>) -> Vec<Share> {
        let mut at = 0;
        while at < shares.len() {
            let share = &shares[at];
            let Some(sequence) = self.running[share.index].sequence else {
                shares.remove(at);
                continue;
            };
            match self.cache.reserve(sequence, share.tokens.len()) {
                Ok(()) => at += 1,
                Err(KvCacheError::Full { .. }) if share.guessed > 0 => {
                    // Guesses are the first to go.
                    let certain = share.tokens.len() - share.guessed;
                    shares[at].tokens.truncate(certain);
                    shares[at].guessed = 0;
                }
                Err(_) if self.running.len() == 1 => {
                    // Nobody is left to give way: the reply has filled the cache.
                    let mut active = self.retire(0);
                    active.finish(FinishReason::Length);
                    self.stats.finished += 1;
                    return Vec::new();
                }
                Err(_) => {
                    let Some(victim) = self.victim() else { return Vec::new() };
                    self.preempt(victim);
                    let gone = shares.iter().position(|share| share.index == victim);
                    if let Some(gone) = gone {
                        shares.remove(gone);
                        at -= usize::from(gone < at);
                    }
                    for share in shares.iter_mut().filter(|share| share.index > victim) {
                        share.index -= 1;
                    }
                }
            }
        }
        shares
    }

    /// The rows of each share, in their order; one pass for each model that somebody runs.
    fn forward(&mut self, shares: &[Share]) -> Vec<Rows> {
        let mut results: Vec<Option<Rows>> = shares.iter().map(|_| None).collect();
        while let Some(first) = results.iter().position(Option::is_none) {
            let slot = self.running[shares[first].index].model.clone();
            let of_slot = |i: &usize| {
                results[*i].is_none() && self.running[shares[*i].index].model.salt == slot.salt
            };
            let members: Vec<usize> = (0..shares.len()).filter(of_slot).collect();
            let spans: Vec<(SequenceId, &Share)> = members
                .iter()
                .filter_map(|&i| Some((self.running[shares[i].index].sequence?, &shares[i])))
                .collect();
            let rows = run_batch(&*slot.model, &mut self.cache, &spans);
            for (i, rows) in members.into_iter().zip(rows) {
                results[i] = Some(rows);
            }
        }
        let missing = || Err(LmError::EmptySpan(None));
        results.into_iter().map(|rows| rows.unwrap_or_else(missing)).collect()
    }

    /// Hands one share's rows to its request; whether that has ended.
    fn accept(&mut self, share: Share, rows: Rows) -> bool {
        let index = share.index;
        let mut rows = match rows {
            Ok(rows) => rows,
            Err(error) => return self.refuse(index, error),
        };
        let active = &mut self.running[index];
        active.held += share.tokens.len() - share.guessed;
        if !share.decodes {
            self.stats.prompt_tokens += share.tokens.len() as u64;
            self.tokens.charge_prompt(&active.key, share.tokens.len());
        }
        if !share.last {
            self.publish(index);
            return false;
        }
        let width = self.shared.limits.vocab_size;
        let guesses = &share.tokens[share.tokens.len() - share.guessed..];
        let mut right = 0;
        let mut end = None;
        for (at, row) in rows.chunks_exact_mut(width).enumerate() {
            let outcome = choose(active, row);
            if let Ok(chosen) = &outcome {
                self.stats.generated_tokens += 1;
                self.tokens.charge_reply(&active.key, 1);
                let is_right = guesses.get(at) == Some(&chosen.token);
                match chosen.finish {
                    Some(reason) => end = Some(Ok(reason)),
                    None if active.tokens.len() >= self.config.max_positions => {
                        end = Some(Ok(FinishReason::Length));
                        let step = active.reply.end(FinishReason::Length);
                        active.tell(Event::Step(step));
                    }
                    None if is_right => {
                        right += 1;
                        continue;
                    }
                    None => {}
                }
            } else if let Err(error) = outcome {
                end = Some(Err(error));
            }
            break;
        }
        self.stats.drafted_tokens += share.guessed as u64;
        self.stats.accepted_tokens += right as u64;
        active.held += right;
        if share.guessed > 0 {
            let len = active.tokens.len();
            if let Some(lookup) = &mut active.lookup {
                lookup.note(share.guessed, right, len);
            }
            if let Some(sequence) = active.sequence {
                let _ = self.cache.truncate(sequence, active.held);
            }
        }
        self.publish(index);
        let Some(end) = end else { return false };
        let active = &mut self.running[index];
        match end {
            Ok(reason) => {
                self.stats.finished += 1;
                active.tell_finished(reason);
            }
            Err(error) => {
                self.stats.failed += 1;
                active.tell(Event::Failed(error));
            }
        }
        true
    }

    fn refuse(&mut self, index: usize, error: LmError) -> bool {
        let active = &mut self.running[index];
        if matches!(error, LmError::TooLong { .. }) && active.usage.completion_tokens > 0 {
            self.stats.finished += 1;
            active.finish(FinishReason::Length);
        } else {
            self.stats.failed += 1;
            active.tell(Event::Failed(EngineError::Model(error)));
        }
        true
    }
}

/// What one row of logits brought.
struct Chosen {
    token: u32,
    finish: Option<FinishReason>,
}

/// Chooses the next token of `active` and tells its client.
fn choose<B: Backend>(active: &mut Active<B>, row: &mut [f32]) -> Result<Chosen, EngineError> {
    // A processor that panics takes its own request down and nobody else's.
    let reply = &mut active.reply;
    let step = match catch_unwind(AssertUnwindSafe(|| reply.step(row))) {
        Ok(Ok(step)) => step,
        Ok(Err(error)) => {
            active.reply.abandon();
            return Err(error.into());
        }
        Err(_) => {
            active.reply.abandon();
            return Err(EngineError::Panicked);
        }
    };
    let (token, finish) = (step.token.unwrap_or_default(), step.finish);
    active.tokens.push(token);
    active.usage.completion_tokens += 1;
    active.tell(Event::Step(step));
    Ok(Chosen { token, finish })
}

/// Runs `spans` together; where they are refused, each by itself, to find out whose fault it is.
fn run_batch<B: Backend, C: ServingCache<B>>(
    model: &dyn lightglm_core::CausalLm<B>,
    cache: &mut C,
    spans: &[(SequenceId, &Share)],
) -> Vec<Rows> {
    let batch: Vec<Span<'_>> =
        spans.iter().map(|(sequence, share)| share.span(*sequence)).collect();
    match model.forward(&batch, cache) {
        Ok(logits) => {
            let width = model.vocab_size();
            let flat = logits.into_data().convert::<f32>().into_vec::<f32>().unwrap_or_default();
            let mut rest = flat.as_slice();
            let split = |(_, share): &(SequenceId, &Share)| {
                let (rows, behind) = rest.split_at_checked(share.rows() * width)?;
                rest = behind;
                Some(rows.to_vec())
            };
            let rows: Option<Vec<Vec<f32>>> = spans.iter().map(split).collect();
            match rows {
                Some(rows) => rows.into_iter().map(Ok).collect(),
                // Fewer rows than were asked for: nobody can tell whose they are.
                None => spans.iter().map(|(id, _)| Err(LmError::EmptySpan(Some(*id)))).collect(),
            }
        }
        Err(error) if spans.len() == 1 => vec![Err(error)],
        Err(_) => spans.iter().flat_map(|span| run_batch(model, cache, &[*span])).collect(),
    }
}
