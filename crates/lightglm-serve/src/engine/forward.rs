//! One forward pass: blocks, rows, tokens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvCacheError, LmError, MediaPart, Span};
use lightglm_generation::FinishReason;

use super::event::{EngineError, Event};
use super::running_sequence::RunningSequence;
use super::scheduled_span::ScheduledSpan;
use super::scheduler::Engine;
use crate::kv::ServingCache;

impl<B: Backend, C: ServingCache<B>> Engine<B, C> {
    /// Runs `scheduled`, one pass for each model among them, and hands out what came of them.
    pub(super) fn run(&mut self, scheduled: Vec<ScheduledSpan>) {
        let mut left = self.reserve(scheduled);
        if left.is_empty() {
            return;
        }
        let tokens_of = |decodes: bool| -> usize {
            left.iter().filter(|s| s.decodes == decodes).map(|span| span.tokens.len()).sum()
        };
        let (decode_rows, prompt_tokens) = (tokens_of(true), tokens_of(false));
        let scores = left.iter().any(|span| span.scores);
        self.stats.steps += 1;
        self.stats.sequences += left.len() as u64;
        let start = Instant::now();
        let mut ended = Vec::new();
        while let Some(first) = left.first() {
            let slot = self.running[first.index].model.clone();
            let same = |span: &ScheduledSpan| self.running[span.index].model.salt == slot.salt;
            let (together, others): (Vec<_>, Vec<_>) = left.into_iter().partition(same);
            self.run_together(&*slot.model, &together, &mut ended);
            left = others;
        }
        // Scores cost what prompts do not.
        if !scores {
            self.pace.note(decode_rows, prompt_tokens, start.elapsed());
        }
        // From the last, so that indices stay what they are.
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            self.finish(index);
        }
    }

    /// Runs `scheduled` in one pass of `model`; where that is refused, each by itself, to find out whose
    /// fault it is. Requests that ended are added to `ended`.
    fn run_together(
        &mut self,
        model: &dyn CausalLm<B>,
        scheduled: &[ScheduledSpan],
        ended: &mut Vec<usize>,
    ) {
        let media: Vec<MediaPart<'_>> = scheduled
            .iter()
            .map(|span| {
                let RunningSequence { media, held, .. } = &self.running[span.index];
                media.part(*held..*held + span.tokens.len())
            })
            .collect();
        let spans: Vec<Span<'_>> = scheduled
            .iter()
            .zip(&media)
            .filter_map(|(span, media)| Some(span.in_sequence(self.running[span.index].id?, media)))
            .collect();
        let mut logits = match model.forward(&spans, &mut self.cache) {
            Ok(logits) => logits.into_data().convert::<f32>().into_vec::<f32>().unwrap_or_default(),
            Err(error) => {
                match scheduled {
                    [span] => {
                        self.refuse(span.index, error);
                        ended.push(span.index);
                    }
                    _ => scheduled.iter().for_each(|span| {
                        self.run_together(model, std::slice::from_ref(span), ended);
                    }),
                }
                return;
            }
        };
        let width = self.shared.limits.vocab_size;
        let mut rest = &mut logits[..];
        for span in scheduled {
            let Some((rows, behind)) = rest.split_at_mut_checked(span.rows() * width) else {
                // Fewer rows than were asked for: whose they are nobody can tell.
                self.refuse(span.index, LmError::EmptySpan(None));
                ended.push(span.index);
                rest = &mut [];
                continue;
            };
            rest = behind;
            if self.accept(span, rows) {
                ended.push(span.index);
            }
        }
    }

    /// Makes room for every span; where blocks run out, a sequence is preempted.
    fn reserve(&mut self, mut scheduled: Vec<ScheduledSpan>) -> Vec<ScheduledSpan> {
        let mut at = 0;
        while at < scheduled.len() {
            let span = &scheduled[at];
            let Some(id) = self.running[span.index].id else {
                scheduled.remove(at);
                continue;
            };
            match self.cache.reserve(id, span.tokens.len()) {
                Ok(()) => at += 1,
                Err(KvCacheError::Full { .. }) if span.guessed > 0 => {
                    // Guesses are the first to go.
                    let certain = span.tokens.len() - span.guessed;
                    scheduled[at].tokens.truncate(certain);
                    scheduled[at].guessed = 0;
                }
                Err(_) if self.running.len() == 1 => {
                    // Nobody is left to give way: the reply has filled the cache.
                    let mut sequence = self.finish(0);
                    sequence.end(FinishReason::Length);
                    self.stats.finished += 1;
                    return Vec::new();
                }
                Err(_) => {
                    let Some(preempted) = self.preempt() else { return Vec::new() };
                    let gone = scheduled.iter().position(|span| span.index == preempted);
                    if let Some(gone) = gone {
                        scheduled.remove(gone);
                        at -= usize::from(gone < at);
                    }
                    for span in scheduled.iter_mut().filter(|span| span.index > preempted) {
                        span.index -= 1;
                    }
                }
            }
        }
        scheduled
    }

    /// Hands one span's rows of logits, `[rows, V]`, to its sequence; whether that has ended.
    fn accept(&mut self, span: &ScheduledSpan, rows: &mut [f32]) -> bool {
        let index = span.index;
        let width = self.shared.limits.vocab_size;
        let sequence = &mut self.running[index];
        let rows = if span.scores {
            sequence.score(sequence.held, rows, width);
            // The next token is chosen from the last row.
            let unchosen = span.tokens.len() - usize::from(span.last);
            &mut rows[unchosen * width..]
        } else {
            rows
        };
        sequence.held += span.tokens.len() - span.guessed;
        if !span.decodes {
            self.stats.prompt_tokens += span.tokens.len() as u64;
            self.tokens.charge_prompt(&sequence.key, span.tokens.len());
        }
        let guesses = &span.tokens[span.tokens.len() - span.guessed..];
        let mut right = 0;
        let mut end = None;
        for (at, row) in rows.chunks_exact_mut(width).enumerate() {
            match choose(sequence, row) {
                Ok(chosen) => {
                    self.stats.generated_tokens += 1;
                    self.tokens.charge_reply(&sequence.key, 1);
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
        if span.guessed > 0 {
            self.stats.drafted_tokens += span.guessed as u64;
            self.stats.accepted_tokens += right as u64;
            sequence.held += right;
            let len = sequence.tokens.len();
            if let Some(lookup) = &mut sequence.lookup {
                lookup.note(span.guessed, right, len);
            }
            if let Some(id) = sequence.id {
                // Never below what is published, which was all held before the guesses.
                let _ = self.cache.truncate(id, sequence.held);
            }
        }
        self.publish(index);
        let sequence = &mut self.running[index];
        match end {
            None => return false,
            Some(Ok(reason)) => {
                self.stats.finished += 1;
                sequence.tell_finished(reason);
            }
            Some(Err(error)) => {
                self.stats.failed += 1;
                sequence.tell(Event::Failed(error));
            }
        }
        true
    }

    fn refuse(&mut self, index: usize, error: LmError) {
        let sequence = &mut self.running[index];
        if matches!(error, LmError::TooLong { .. }) && sequence.usage.completion_tokens > 0 {
            self.stats.finished += 1;
            sequence.end(FinishReason::Length);
        } else {
            self.stats.failed += 1;
            sequence.tell(Event::Failed(EngineError::Model(error)));
        }
    }
}

/// What one row of logits brought.
struct Chosen {
    token: u32,
    finish: Option<FinishReason>,
}

/// Chooses the next token of `sequence` and tells its client.
fn choose<B: Backend>(
    sequence: &mut RunningSequence<B>,
    row: &mut [f32],
) -> Result<Chosen, EngineError> {
    // A processor that panics takes its own request down and nobody else's.
    let reply = &mut sequence.reply;
    let step = match catch_unwind(AssertUnwindSafe(|| reply.step(row))) {
        Ok(Ok(step)) => step,
        Ok(Err(error)) => {
            sequence.reply.abandon();
            return Err(error.into());
        }
        Err(_) => {
            sequence.reply.abandon();
            return Err(EngineError::Panicked);
        }
    };
    let (token, finish) = (step.token.unwrap_or_default(), step.finish);
    sequence.tokens.push(token);
    sequence.usage.completion_tokens += 1;
    sequence.tell(Event::Step(step));
    Ok(Chosen { token, finish })
}
