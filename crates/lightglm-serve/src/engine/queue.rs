//! The order in which waiting requests start.

use std::cmp::Ordering;

use burn::tensor::backend::Backend;

use super::fairness::VirtualTokens;
use super::running_sequence::RunningSequence;

/// Who waits.
pub(super) struct Queue<B: Backend> {
    waiting: Vec<RunningSequence<B>>,
}

impl<B: Backend> Queue<B> {
    pub(super) fn new() -> Self {
        Self { waiting: Vec::new() }
    }

    pub(super) fn push(&mut self, sequence: RunningSequence<B>) {
        self.waiting.push(sequence);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes out those that `ends` says something of.
    pub(super) fn drain_if(
        &mut self,
        mut ends: impl FnMut(&RunningSequence<B>) -> bool,
    ) -> Vec<RunningSequence<B>> {
        let mut out = Vec::new();
        let mut i = 0;
        while i < self.waiting.len() {
            if ends(&self.waiting[i]) {
                out.push(self.waiting.swap_remove(i));
            } else {
                i += 1;
            }
        }
        out
    }

    /// Takes out who is next among those that `may` start: the highest priority; who ran before;
    /// whose key has had the least; who came first.
    pub(super) fn pop(
        &mut self,
        tokens: &VirtualTokens,
        may: impl Fn(&RunningSequence<B>) -> bool,
    ) -> Option<RunningSequence<B>> {
        let order = |a: &RunningSequence<B>, b: &RunningSequence<B>| -> Ordering {
            (b.priority.cmp(&a.priority))
                .then(b.started.cmp(&a.started))
                .then(tokens.charged(&a.key).total_cmp(&tokens.charged(&b.key)))
                .then(a.arrival.cmp(&b.arrival))
        };
        let candidates = (0..self.waiting.len()).filter(|&i| may(&self.waiting[i]));
        let next = candidates.min_by(|&a, &b| order(&self.waiting[a], &self.waiting[b]))?;
        Some(self.waiting.swap_remove(next))
    }
}
