//! `log_likelihoods`: how likely each of some continuations is after each of many prompts.
//!
//! Shapes: `S` sequences at work, `N` tokens of a step a sequence, `V` vocab_size.

use burn::tensor::backend::Backend;
use lightglm_core::{KvCache, LogitRows};
use rayon::prelude::*;

use super::continuation_tree::ContinuationTree;
use super::error::BatchError;
use super::slots::{BatchOptions, BatchSubject, Feed, Slots};
use crate::log_softmax::{log_sum_exp, nll};
use crate::run_control::RunControl;

/// `ln p(continuation | prompt)` in nats, for every prompt and every continuation.
///
/// ```text
/// result[i][j] = sum over t of ln p(continuations[j][t] | prompts[i], continuations[j][..t])
/// ```
/// with log-softmax and sums in f64, in the order of the tokens. Continuations are walked as a
/// tree, so what several have in common is computed once. Entry `i` is `None` where the stop flag
/// was raised before prompt `i` was done. Progress counts prompts; `control.rows_per_step` bounds
/// the logits held.
///
/// # Errors
/// [`BatchError`].
pub fn log_likelihoods<B: Backend, C: KvCache<B>>(
    subject: &mut BatchSubject<'_, B, C>,
    prompts: &[Vec<u32>],
    continuations: &[Vec<u32>],
    options: &BatchOptions,
    control: &mut RunControl<'_>,
) -> Result<Vec<Option<Vec<f64>>>, BatchError> {
    subject.check("prompt", prompts)?;
    subject.check("continuation", continuations)?;
    let mut results: Vec<Option<Vec<f64>>> = vec![None; prompts.len()];
    let Some(longest) = prompts.iter().map(Vec::len).max() else { return Ok(results) };
    let added = continuations.iter().map(Vec::len).max().unwrap_or(0);
    // The last token of a continuation is never fed.
    let slots = subject.slots(options, prompts.len(), longest + added.saturating_sub(1))?;
    let sequences = slots.count();
    let tree = ContinuationTree::new(continuations);
    let rows_per_step = control.rows_per_step.max(1);
    let mut walk = Walk {
        slots,
        tree: &tree,
        vocab_size: subject.vocab_size(),
        tokens_per_step: options.tokens_per_step.max(1),
        rows_per_step,
        scores: Vec::new(),
    };
    control.report(0, prompts.len());
    for first in (0..prompts.len()).step_by(sequences) {
        let group: Vec<usize> = (first..prompts.len().min(first + sequences)).collect();
        walk.scores = vec![vec![0.0; continuations.len()]; group.len()];
        if !walk.score(&Group { indices: &group, prompts }, control)? {
            break;
        }
        for (&prompt, scores) in group.iter().zip(walk.scores.drain(..)) {
            results[prompt] = Some(scores);
        }
        control.report(first + group.len(), prompts.len());
    }
    Ok(results)
}

struct Walk<'a, B: Backend, C> {
    slots: Slots<'a, B, C>,
    tree: &'a ContinuationTree,
    vocab_size: usize,
    tokens_per_step: usize,
    rows_per_step: usize,
    /// For each prompt of the group, the result.
    scores: Vec<Vec<f64>>,
}

/// Prompts at work: prompt `indices[i]` is in sequence `i`.
struct Group<'p> {
    indices: &'p [usize],
    prompts: &'p [Vec<u32>],
}

/// A node of the tree whose tokens are all in the cache.
struct Place {
    node: usize,
    /// Tokens of the continuation up to here.
    depth: usize,
    /// For each sequence the log-likelihood up to here.
    sums: Vec<f64>,
    /// For each sequence and each child of `node`, `ln p(child | so far)`.
    next: Vec<Vec<f64>>,
}

impl<B: Backend, C: KvCache<B>> Walk<'_, B, C> {
    /// Scores one prompt a sequence; false where the stop flag ended it.
    fn score(&mut self, group: &Group<'_>, control: &RunControl<'_>) -> Result<bool, BatchError> {
        let Some(next) = self.prefill(group, control)? else { return Ok(false) };
        let sums = vec![0.0; group.indices.len()];
        self.visit(&Place { node: ContinuationTree::ROOT, depth: 0, sums, next }, group, control)
    }

    /// Feeds the prompts; returns what the last row of each says about the first tokens.
    fn prefill(
        &mut self,
        group: &Group<'_>,
        control: &RunControl<'_>,
    ) -> Result<Option<Vec<Vec<f64>>>, BatchError> {
        let mut pending = Vec::with_capacity(group.indices.len());
        for (slot, &prompt) in group.indices.iter().enumerate() {
            let tokens = &group.prompts[prompt];
            pending.push(&tokens[self.slots.begin(slot, tokens)?..]);
        }
        let mut next = vec![Vec::new(); pending.len()];
        while pending.iter().any(|tokens| !tokens.is_empty()) {
            if control.is_stopped() {
                return Ok(None);
            }
            let mut budget = self.tokens_per_step;
            let mut feeds = Vec::new();
            for (slot, tokens) in pending.iter_mut().enumerate() {
                let (now, later) = tokens.split_at(tokens.len().min(budget));
                budget -= now.len();
                let logits = if later.is_empty() { LogitRows::Last } else { LogitRows::None };
                if !now.is_empty() {
                    let prompt = group.indices[slot];
                    feeds.push(Feed { slot, prompt, tokens: now, logits, media: None });
                }
                *tokens = later;
            }
            let logits = self.forward(&feeds)?;
            let ended = feeds.iter().filter(|feed| feed.logits == LogitRows::Last);
            for (feed, row) in ended.zip(logits.chunks_exact(self.vocab_size)) {
                next[feed.slot] = self.children(ContinuationTree::ROOT, row);
            }
        }
        Ok(Some(next))
    }

    /// Scores what is below `place`; false where the stop flag ended it.
    fn visit(
        &mut self,
        place: &Place,
        group: &Group<'_>,
        control: &RunControl<'_>,
    ) -> Result<bool, BatchError> {
        let tree = self.tree;
        for (index, &(token, child)) in tree.node(place.node).children.iter().enumerate() {
            if control.is_stopped() {
                return Ok(false);
            }
            let sums = place.sums.iter().zip(&place.next).map(|(sum, next)| sum + next[index]);
            let sums: Vec<f64> = sums.collect();
            self.record(child, &sums, group)?;
            let chain = tree.chain(token, child);
            if let Some(&(_, last)) = chain.last() {
                for (slot, &prompt) in group.indices.iter().enumerate() {
                    self.slots.rewind(slot, group.prompts[prompt].len() + place.depth)?;
                }
                let (sums, next) = self.descend(&chain, sums, group)?;
                let depth = place.depth + chain.len();
                if !self.visit(&Place { node: last, depth, sums, next }, group, control)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Feeds every sequence the tokens of `chain`; returns the sums at its last node and what
    /// follows there.
    fn descend(
        &mut self,
        chain: &[(u32, usize)],
        mut sums: Vec<f64>,
        group: &Group<'_>,
    ) -> Result<(Vec<f64>, Vec<Vec<f64>>), BatchError> {
        let tokens: Vec<u32> = chain.iter().map(|(token, _)| *token).collect();
        // `[S, N - 1]` inside the chain, then what follows its last node.
        let mut inside = Vec::with_capacity(sums.len());
        let mut next = Vec::with_capacity(sums.len());
        let at_once = (self.rows_per_step.min(self.tokens_per_step) / tokens.len()).max(1);
        let slots: Vec<usize> = (0..sums.len()).collect();
        for slots in slots.chunks(at_once) {
            let feed = |&slot: &usize| {
                let prompt = group.indices[slot];
                Feed { slot, prompt, tokens: &tokens, logits: LogitRows::All, media: None }
            };
            let feeds: Vec<Feed<'_>> = slots.iter().map(feed).collect();
            let logits = self.forward(&feeds)?;
            let (tree, vocab_size) = (self.tree, self.vocab_size);
            let rows: Vec<Vec<f64>> = logits
                .par_chunks_exact(vocab_size)
                .enumerate()
                .map(|(row, logits)| children(tree, chain[row % chain.len()].1, logits))
                .collect();
            for rows in rows.chunks_exact(chain.len()) {
                let (last, before) = rows.split_last().expect("a chain is not empty");
                inside.push(before.iter().map(|only| only[0]).collect::<Vec<f64>>());
                next.push(last.clone());
            }
        }
        for (step, &(_, node)) in chain.iter().skip(1).enumerate() {
            for (sum, inside) in sums.iter_mut().zip(&inside) {
                *sum += inside[step];
            }
            self.record(node, &sums, group)?;
        }
        Ok((sums, next))
    }

    /// Writes down the scores of the continuations that end at `node`.
    fn record(&mut self, node: usize, sums: &[f64], group: &Group<'_>) -> Result<(), BatchError> {
        for (slot, &sum) in sums.iter().enumerate() {
            if !sum.is_finite() {
                return Err(BatchError::NotFinite { prompt: group.indices[slot] });
            }
            for &continuation in &self.tree.node(node).ends {
                self.scores[slot][continuation] = sum;
            }
        }
        Ok(())
    }

    fn forward(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<f32>, BatchError> {
        self.slots.forward(feeds).map_err(|source| {
            let prompts = feeds.iter().map(|feed| feed.prompt).collect();
            BatchError::Forward { prompts, source }
        })
    }

    fn children(&self, node: usize, row: &[f32]) -> Vec<f64> {
        children(self.tree, node, row)
    }
}

/// `ln p` of each child of `node`, from the logits `row: [V]` after it.
fn children(tree: &ContinuationTree, node: usize, row: &[f32]) -> Vec<f64> {
    let lse = log_sum_exp(row);
    tree.node(node).children.iter().map(|&(token, _)| -nll(row, lse, token as usize)).collect()
}
