//! `BatchSubject`, `BatchOptions`, and the sequences of one cache that prompts take turns in.
//!
//! Shapes: `R` rows of logits in a step, `V` vocab_size.

use burn::tensor::backend::Backend;
use lightglm_core::{
    CausalLm, KV_BLOCK, KvCache, KvCacheError, LmError, LogitRows, MediaPart, SequenceId, Span,
};

use super::error::BatchError;
use crate::forward::{ForwardError, forward};

/// Makes an empty cache: so many sequences (ids from 0) with room for so many positions each.
type MakeCache<'a, C> = dyn FnMut(usize, usize) -> Result<C, KvCacheError> + 'a;

/// Forgets all but the first so many positions of a sequence.
type Truncate<C> = fn(&mut C, SequenceId, usize) -> Result<(), KvCacheError>;

/// A model with the means to make it a cache of many sequences.
pub struct BatchSubject<'a, B: Backend, C> {
    pub(super) model: &'a dyn CausalLm<B>,
    make_cache: &'a mut MakeCache<'a, C>,
    truncate: Truncate<C>,
}

impl<'a, B: Backend, C: KvCache<B>> BatchSubject<'a, B, C> {
    /// `make_cache(sequences, positions)` returns an empty cache which holds the sequences
    /// `0..sequences` and has room for `positions` in each. `truncate(cache, sequence, len)` makes
    /// the cache forget all but the first `len` positions of a sequence: what a reply or a label
    /// added is taken off again, and the prompt stays.
    pub fn new(
        model: &'a dyn CausalLm<B>,
        make_cache: &'a mut (dyn FnMut(usize, usize) -> Result<C, KvCacheError> + 'a),
        truncate: fn(&mut C, SequenceId, usize) -> Result<(), KvCacheError>,
    ) -> Self {
        Self { model, make_cache, truncate }
    }

    /// The model's vocabulary size.
    pub fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    /// Checks that every list of ids is not empty and inside of the vocabulary.
    pub(super) fn check(&self, part: &'static str, lists: &[Vec<u32>]) -> Result<(), BatchError> {
        let vocab_size = self.vocab_size();
        for (index, tokens) in lists.iter().enumerate() {
            if tokens.is_empty() {
                return Err(match part {
                    "prompt" => BatchError::EmptyPrompt { prompt: index },
                    _ => BatchError::EmptyContinuation { continuation: index },
                });
            }
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
                return Err(BatchError::TokenOutOfRange { part, index, token, vocab_size });
            }
        }
        Ok(())
    }

    /// A cache for `prompts` prompts of `positions` positions at most, replies included: as many
    /// empty sequences as `options` allows.
    pub(super) fn slots(
        &mut self,
        options: &BatchOptions,
        prompts: usize,
        positions: usize,
    ) -> Result<Slots<'a, B, C>, BatchError> {
        let sequences = options.sequences.max(1).min(prompts);
        let positions = options.max_positions.map_or(positions, |most| positions.min(most));
        // A pool has less than 2^32 blocks.
        let blocks = positions.div_ceil(KV_BLOCK).checked_mul(sequences);
        if blocks.is_none_or(|blocks| u32::try_from(blocks).is_err()) {
            return Err(BatchError::TooLarge { sequences, positions });
        }
        let cache = (self.make_cache)(sequences, positions)?;
        let held = vec![Vec::new(); sequences];
        Ok(Slots { model: self.model, truncate: self.truncate, cache, held, positions })
    }
}

/// How prompts are batched. None of this changes a result, but for prompts that
/// [`Self::max_positions`] leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Prompts that are worked on at once, at least 1 (0 counts as 1): the cache holds as many
    /// times the longest prompt.
    pub sequences: usize,
    /// Tokens of all sequences that go through the model in one step, at least 1 (0 counts as 1).
    pub tokens_per_step: usize,
    /// Positions of a sequence, at most: a model's `max_position_embeddings`, say. A reply that
    /// reaches them ends, a prompt beyond them is refused. If omitted, the longest prompt and reply
    /// decide alone how large the cache is.
    pub max_positions: Option<usize>,
}

impl Default for BatchOptions {
    /// 8 sequences, 1024 tokens a step, as many positions as are asked for.
    fn default() -> Self {
        Self { sequences: 8, tokens_per_step: 1024, max_positions: None }
    }
}

/// What one sequence is to be fed.
pub(super) struct Feed<'w> {
    pub(super) slot: usize,
    /// Whose tokens these are, for errors.
    pub(super) prompt: usize,
    pub(super) tokens: &'w [u32],
    pub(super) logits: LogitRows,
    /// What stands beside the tokens; nothing for a text.
    pub(super) media: Option<MediaPart<'w>>,
}

/// The sequences of one cache and the tokens that each holds.
pub(super) struct Slots<'a, B: Backend, C> {
    model: &'a dyn CausalLm<B>,
    truncate: Truncate<C>,
    cache: C,
    held: Vec<Vec<u32>>,
    /// Positions that each may hold. Caches of whole blocks have room for a few more, and no result
    /// should depend on that.
    positions: usize,
}

impl<B: Backend, C: KvCache<B>> Slots<'_, B, C> {
    /// How many sequences there are.
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// Makes `slot` hold a prefix of `prompt`, as long as it has one already, and returns its length:
    /// at least the last token, whose logits are wanted, is still to be fed.
    pub(super) fn begin(&mut self, slot: usize, prompt: &[u32]) -> Result<usize, KvCacheError> {
        let pairs = self.held[slot].iter().zip(prompt);
        let common = pairs.take_while(|(held, wanted)| held == wanted).count();
        let kept = common.min(prompt.len().saturating_sub(1));
        self.rewind(slot, kept)?;
        Ok(kept)
    }

    /// Forgets all but the first `len` tokens of `slot`.
    pub(super) fn rewind(&mut self, slot: usize, len: usize) -> Result<(), KvCacheError> {
        if self.held[slot].len() > len {
            (self.truncate)(&mut self.cache, SequenceId(slot), len)?;
            self.held[slot].truncate(len);
        }
        Ok(())
    }

    /// One forward pass; returns the requested rows `[R, V]` in order, row-major.
    pub(super) fn forward(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<f32>, ForwardError> {
        for feed in feeds {
            let (requested, available) =
                (self.held[feed.slot].len() + feed.tokens.len(), self.positions);
            if requested > available {
                return Err(LmError::Cache(KvCacheError::Full { requested, available }).into());
            }
        }
        let spans: Vec<Span<'_>> = feeds
            .iter()
            .map(|feed| {
                let sequence = SequenceId(feed.slot);
                match &feed.media {
                    Some(media) => media.span(sequence, feed.tokens, feed.logits),
                    None => Span::text(sequence, feed.tokens, feed.logits),
                }
            })
            .collect();
        let logits = forward(self.model, &mut self.cache, &spans);
        // What the model has not refused is in the cache, even where its logits are lost.
        if !matches!(logits, Err(ForwardError::Model(_))) {
            for feed in feeds {
                self.held[feed.slot].extend_from_slice(feed.tokens);
            }
        }
        logits
    }
}
