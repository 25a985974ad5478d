//! `KvCache`: keys and values as runs of fixed-size blocks.
//!
//! Shapes: `P` blocks in a layer's pool, `K` kv heads, `d` head_dim, [`KV_BLOCK`] positions a block.

use burn::tensor::{Tensor, backend::Backend};

/// Positions in one KV block.
///
/// Sixteen: one vector register of f32 scores on the widest machine, and the block size serving
/// engines page by.
pub const KV_BLOCK: usize = 16;

/// Names a sequence inside one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub usize);

/// One layer's pool of blocks, in the layout attention walks.
///
/// Keys are transposed inside a block, so that sixteen scores are computed side by side without a
/// horizontal sum.
#[derive(Clone, Debug)]
pub struct KvLayer<B: Backend> {
    /// `[P, K, d, KV_BLOCK]`, f32, f16 or bf16.
    pub keys: Tensor<B, 4>,
    /// `[P, K, KV_BLOCK, d]`, same dtype.
    pub values: Tensor<B, 4>,
}

/// Where attention finds and leaves keys and values.
///
/// A contiguous cache is one whose block tables count upwards; a paged one hands blocks out in any
/// order. Attention cannot tell them apart. The order of calls in one step is `reserve` for each
/// sequence, `layer_mut` for each layer, `advance` for each sequence.
pub trait KvCache<B: Backend> {
    /// The block table of `sequence` and the number of positions it holds.
    ///
    /// Position `p` lies in block `table[p / KV_BLOCK]` at offset `p % KV_BLOCK`.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`].
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError>;

    /// Makes the block table long enough for `additional` more positions.
    ///
    /// # Errors
    /// [`KvCacheError::Full`] where no block is left; the table is then unchanged.
    fn reserve(&mut self, sequence: SequenceId, additional: usize) -> Result<(), KvCacheError>;

    /// The pool of layer `layer`, to append to and read from.
    ///
    /// # Panics
    /// Where `layer` is not a layer of the model that the cache was made for.
    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<B>;

    /// Counts `added` positions, which every layer has written by now, as held.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`]; [`KvCacheError::Full`] for more than was reserved.
    fn advance(&mut self, sequence: SequenceId, added: usize) -> Result<(), KvCacheError>;
}

/// Why a KV cache refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvCacheError {
    /// The cache has no such sequence.
    #[error("the KV cache has no sequence {0:?}")]
    UnknownSequence(SequenceId),
    /// No block is left.
    #[error("the KV cache is full: {requested} positions asked for, room for {available}")]
    Full {
        /// Positions the sequence would have held.
        requested: usize,
        /// Positions it can hold.
        available: usize,
    },
}
