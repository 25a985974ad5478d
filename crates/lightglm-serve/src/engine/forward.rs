//! One forward pass: blocks, rows, tokens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvCacheError, LmError, Span};
use lightglm_generation::FinishReason;

use super::active::{Active, Share};
use super::event::{EngineError, Event};
use super::scheduler::Engine;
use crate::kv::ServingCache;

impl<B: Backend, C: ServingCache<B>> Engine<B, C> {
    /// Runs `shares`, one pass for each model among them, and hands out what came of them.
    pub(super) fn run(&mut self, shares: Vec<Share>) {
        let mut left = self.reserve(shares);
        if left.is_empty() {
            return;
        }
        let tokens_of = |decodes: bool| -> usize {
            left.iter().filter(|s| s.decodes == decodes).map(|share| share.tokens.len()).sum()
        };
        let (decode_rows, prompt_tokens) = (tokens_of(true), tokens_of(false));
        self.stats.steps += 1;
        self.stats.sequences += left.len() as u64;
        let start = Instant::now();
        let mut ended = Vec::new();
        while let Some(first) = left.first() {
            let slot = self.running[first.index].model.clone();
            let same = |share: &Share| self.running[share.index].model.salt == slot.salt;
            let (together, others): (Vec<_>, Vec<_>) = left.into_iter().partition(same);
            self.run_together(&*slot.model, &together, &mut ended);
            left = others;
        }
        self.pace.note(decode_rows, prompt_tokens, start.elapsed());
        // From the last, so that indices stay what they are.
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            self.retire(index);
        }
    }

    /// Runs `shares` in one pass of `model`; where that is refused, each by itself, to find out whose
    /// fault it is. Requests that ended are added to `ended`.
    fn run_together(&mut self, model: &dyn CausalLm<B>, shares: &[Share], ended: &mut Vec<usize>) {
        let spans: Vec<Span<'_>> = shares
            .iter()
            .filter_map(|share| Some(share.span(self.running[share.index].sequence?)))
            .collect();
        let mut logits = match model.forward(&spans, &mut self.cache) {
            Ok(logits) => logits.into_data().convert::<f32>().into_vec::<f32>().unwrap_or_default(),
            Err(error) => {
                match shares {
                    [share] => {
                        self.refuse(share.index, error);
                        ended.push(share.index);
                    }
                    _ => shares.iter().for_each(|share| {
                        self.run_together(model, std::slice::from_ref(share), ended);
                    }),
                }
                return;
            }
        };
        let width = self.shared.limits.vocab_size;
        let mut rest = &mut logits[..];
        for share in shares {
            let Some((rows, behind)) = rest.split_at_mut_checked(share.rows() * width) else {
                // Fewer rows than were asked for: whose they are nobody can tell.
                self.refuse(share.index, LmError::EmptySpan(None));
                ended.push(share.index);
                rest = &mut [];
                continue;
            };
            rest = behind;
            if self.accept(share, rows) {
                ended.push(share.index);
            }
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

    /// Hands one share's rows of logits, `[rows, V]`, to its request; whether that has ended.
    fn accept(&mut self, share: &Share, rows: &mut [f32]) -> bool {
        let index = share.index;
        let active = &mut self.running[index];
        active.held += share.tokens.len() - share.guessed;
        if !share.decodes {
            self.stats.prompt_tokens += share.tokens.len() as u64;
            self.tokens.charge_prompt(&active.key, share.tokens.len());
        }
        let guesses = &share.tokens[share.tokens.len() - share.guessed..];
        let mut right = 0;
        let mut end = None;
        for (at, row) in rows.chunks_exact_mut(self.shared.limits.vocab_size).enumerate() {
            match choose(active, row) {
                Ok(chosen) => {
                    self.stats.generated_tokens += 1;
                    self.tokens.charge_reply(&active.key, 1);
                    end = chosen.finish.map(Ok);
                    if end.is_none() && guesses.get(at) == Some(&chosen.token) {
                        right += 1;
                        continue;
                    }
                }
                Err(error) => end = Some(Err(error)),
            }
            break;
        }
        if share.guessed > 0 {
            self.stats.drafted_tokens += share.guessed as u64;
            self.stats.accepted_tokens += right as u64;
            active.held += right;
            let len = active.tokens.len();
            if let Some(lookup) = &mut active.lookup {
                lookup.note(share.guessed, right, len);
            }
            if let Some(sequence) = active.sequence {
                // Never below what is published, which was all held before the guesses.
                let _ = self.cache.truncate(sequence, active.held);
            }
        }
        self.publish(index);
        let active = &mut self.running[index];
        match end {
            None => return false,
            Some(Ok(reason)) => {
                self.stats.finished += 1;
                active.tell_finished(reason);
            }
            Some(Err(error)) => {
                self.stats.failed += 1;
                active.tell(Event::Failed(error));
            }
        }
        true
    }

    fn refuse(&mut self, index: usize, error: LmError) {
        let active = &mut self.running[index];
        if matches!(error, LmError::TooLong { .. }) && active.usage.completion_tokens > 0 {
            self.stats.finished += 1;
            active.finish(FinishReason::Length);
        } else {
            self.stats.failed += 1;
            active.tell(Event::Failed(EngineError::Model(error)));
        }
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
