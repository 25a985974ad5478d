//! `generate`: greedy replies to many prompts, with sequences that take the next prompt as soon as
//! they are free.
//!
//! Shapes: `V` vocab_size.

use burn::tensor::backend::Backend;
use lightglm_core::{KvCache, LogitRows};

use super::error::BatchError;
use super::slots::{BatchOptions, BatchSubject, Feed, Slots};
use crate::log_softmax::argmax;
use crate::run_control::RunControl;

/// When a reply ends.
pub struct Ending<'a> {
    /// A token of these ends the reply and is not part of it.
    pub end_tokens: &'a [u32],
    /// Longest reply, in tokens.
    pub max_new_tokens: usize,
    /// Looks at the reply after every token; true where it need not go on.
    pub is_complete: &'a dyn Fn(&[u32]) -> bool,
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model said one of [`Ending::end_tokens`].
    EndToken,
    /// [`Ending::is_complete`].
    Complete,
    /// [`Ending::max_new_tokens`].
    Length,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its tokens, without an end token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// The most likely token after each prompt, and so on (the lowest id among equals).
///
/// Entry `i` of the result is the reply to `prompts[i]`; `None` where the stop flag was raised
/// before it was complete. Progress counts replies. `control.rows_per_step` has no effect: a step
/// takes one row a sequence.
///
/// # Errors
/// [`BatchError`].
pub fn generate<B: Backend, C: KvCache<B>>(
    subject: &mut BatchSubject<'_, B, C>,
    prompts: &[Vec<u32>],
    ending: &Ending<'_>,
    options: &BatchOptions,
    control: &mut RunControl<'_>,
) -> Result<Vec<Option<Generation>>, BatchError> {
    subject.check("prompt", prompts)?;
    let mut replies: Vec<Option<Generation>> = vec![None; prompts.len()];
    let Some(longest) = prompts.iter().map(Vec::len).max() else { return Ok(replies) };
    if ending.max_new_tokens == 0 {
        let empty = Generation { tokens: Vec::new(), finish: Finish::Length };
        return Ok(vec![Some(empty); prompts.len()]);
    }
    let sequences = options.sequences.clamp(1, prompts.len());
    // The last token of a reply is never fed.
    let slots = subject.slots(sequences, longest + ending.max_new_tokens - 1)?;
    let mut run = Run { slots, ending, vocab_size: subject.vocab_size() };
    let mut waiting = 0..prompts.len();
    let mut active: Vec<Option<Active>> = (0..sequences).map(|_| None).collect();
    let mut done = 0;
    control.report(done, prompts.len());
    while !control.is_stopped() {
        for (slot, place) in active.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            let Some(prompt) = waiting.next() else { break };
            let pending = run.slots.begin(slot, &prompts[prompt])?.to_vec();
            *place = Some(Active { prompt, pending, reply: Vec::new() });
        }
        if active.iter().all(Option::is_none) {
            break;
        }
        for (prompt, reply) in run.step(&mut active, options.tokens_per_step.max(1))? {
            replies[prompt] = Some(reply);
            done += 1;
            control.report(done, prompts.len());
        }
    }
    Ok(replies)
}

/// A prompt and its reply on their way through a sequence.
struct Active {
    prompt: usize,
    /// Tokens to feed before the next token of the reply is known.
    pending: Vec<u32>,
    reply: Vec<u32>,
}

struct Run<'a, B: Backend, C> {
    slots: Slots<'a, B, C>,
    ending: &'a Ending<'a>,
    vocab_size: usize,
}

impl<B: Backend, C: KvCache<B>> Run<'_, B, C> {
    /// One forward pass of at most `budget` tokens; returns the replies that are complete now.
    fn step(
        &mut self,
        active: &mut [Option<Active>],
        mut budget: usize,
    ) -> Result<Vec<(usize, Generation)>, BatchError> {
        // A reply in progress asks for one token: it never waits for somebody's long prompt.
        let mut order: Vec<usize> = (0..active.len()).filter(|&i| active[i].is_some()).collect();
        order.sort_by_key(|&slot| active[slot].as_ref().map_or(0, |a| a.pending.len()));
        let mut feeds = Vec::with_capacity(order.len());
        for slot in order {
            let Some(Active { prompt, pending, .. }) = &active[slot] else { continue };
            let count = pending.len().min(budget);
            if count == 0 {
                break;
            }
            budget -= count;
            let whole = count == pending.len();
            let logits = if whole { LogitRows::Last } else { LogitRows::None };
            feeds.push(Feed { slot, prompt: *prompt, tokens: &pending[..count], logits });
        }
        let logits = self.slots.forward(&feeds)?;
        let fed: Vec<_> = feeds.iter().map(|f| (f.slot, f.tokens.len(), f.logits)).collect();
        let mut rows = logits.chunks_exact(self.vocab_size);
        let mut finished = Vec::new();
        for (slot, count, wanted) in fed {
            let Some(state) = &mut active[slot] else { continue };
            if wanted == LogitRows::None {
                state.pending.drain(..count);
                continue;
            }
            let Some(row) = rows.next() else { continue };
            if let Some(finish) = self.take(state, row)? {
                let tokens = std::mem::take(&mut state.reply);
                finished.push((state.prompt, Generation { tokens, finish }));
                active[slot] = None;
            }
        }
        Ok(finished)
    }

    /// Adds the most likely token of `row: [V]` to the reply, unless it ends it.
    fn take(&self, state: &mut Active, row: &[f32]) -> Result<Option<Finish>, BatchError> {
        let token = argmax(row);
        if !row[token].is_finite() || row.iter().any(|x| x.is_nan()) {
            return Err(BatchError::NotFinite { prompt: state.prompt });
        }
        let token = token as u32;
        if self.ending.end_tokens.contains(&token) {
            return Ok(Some(Finish::EndToken));
        }
        state.reply.push(token);
        if (self.ending.is_complete)(&state.reply) {
            return Ok(Some(Finish::Complete));
        }
        if state.reply.len() == self.ending.max_new_tokens {
            return Ok(Some(Finish::Length));
        }
        state.pending = vec![token];
        Ok(None)
    }
}
