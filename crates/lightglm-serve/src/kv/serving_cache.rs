//! `ServingCache`: a KV cache that a scheduler can hand sequences of.

use burn::tensor::backend::Backend;
use lightglm_core::{KvCache, KvCacheError, SequenceId};

/// A KV cache whose sequences come and go, and share what they have in common.
///
/// The order of calls: `open`; then, as often as need be, a forward pass (which calls `reserve`,
/// `layer_mut` and `advance`), `truncate` of what was wrong, `publish`; at last `close`.
///
/// A forward pass that failed has advanced nothing: the sequence holds what it held, and the blocks
/// that were reserved stay with it until it needs or closes them.
pub trait ServingCache<B: Backend>: KvCache<B> {
    /// Opens a sequence that is going to hold `tokens`, and returns how many positions it holds
    /// already.
    ///
    /// Blocks that were published with the same tokens from position 0 on, and the same `salt`, are
    /// shared instead of computed again. The number of positions is a multiple of
    /// [`KV_BLOCK`](lightglm_core::KV_BLOCK) and less than `tokens.len()` (0 for no tokens), so that
    /// there is something left to compute logits from.
    ///
    /// The salt stands for all that keys and values depend on beside the tokens (the adapter, say),
    /// and for whom they are shared with.
    fn open(&mut self, tokens: &[u32], salt: u64) -> (SequenceId, usize);

    /// Says which tokens the positions held stand for, all from position 0: full blocks become
    /// findable.
    ///
    /// Only what is not published yet is looked at. Tokens beyond the positions held are ignored;
    /// with fewer tokens, fewer blocks are published. Where another sequence has published the same
    /// contents, this one takes up those blocks and gives its own back, so its block table may
    /// change.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`].
    fn publish(&mut self, sequence: SequenceId, tokens: &[u32]) -> Result<(), KvCacheError>;

    /// Keeps the first `len` positions and forgets the rest; nothing happens where the sequence holds
    /// no more than that.
    ///
    /// Published positions stay, those that `open` has found among them: others may hold their blocks,
    /// which are never written to again. Guesses are published once they have turned out right.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`]; [`KvCacheError::Published`] where fewer positions than are
    /// published would be left, and all are kept.
    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), KvCacheError>;

    /// Gives all blocks up; what was published stays findable until the room is needed, the longest
    /// unused first.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`], also for a sequence that is closed already.
    fn close(&mut self, sequence: SequenceId) -> Result<(), KvCacheError>;

    /// Closes all sequences and forgets all contents, pools included.
    ///
    /// For when a forward pass panicked: nobody knows what it left of the pools.
    fn reset(&mut self);

    /// Where the blocks are.
    fn usage(&self) -> KvUsage;
}

/// Blocks of a KV cache, by where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvUsage {
    /// All of them.
    pub blocks: usize,
    /// Held by sequences; a block that several hold counts once.
    pub used: usize,
    /// Held by nobody, and findable.
    pub cached: usize,
}

impl KvUsage {
    /// Blocks whose contents mean nothing.
    pub const fn free(self) -> usize {
        self.blocks.saturating_sub(self.used).saturating_sub(self.cached)
    }
}
