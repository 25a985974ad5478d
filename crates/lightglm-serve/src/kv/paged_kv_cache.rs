//! `PagedKvCache`: blocks in any order, shared between sequences with the same beginning.
//!
//! Shapes: `P` blocks in a layer's pool, `K` kv heads, `d` head_dim.

use std::collections::HashMap;
use std::iter;

use burn::tensor::backend::Backend;
use lightglm_core::{KV_BLOCK, KvCache, KvCacheError, KvDtype, KvLayer, KvShape, SequenceId};

use super::block_pool::{BlockPool, BlockRef};
use super::block_table::BlockTable;
use super::prefix_index::{Parent, PrefixIndex};
use super::serving_cache::{KvUsage, ServingCache};

/// A cache of `P` blocks of [`KV_BLOCK`] positions that all sequences share.
///
/// A layer's pool is made on the layer's first use. Sequences are opened ([`ServingCache::open`]);
/// ids count from 0 and are not used again. What is written depends on nothing that was in a block
/// before, so blocks go from one sequence to the next as they are.
pub struct PagedKvCache<B: Backend> {
    layers: Vec<Option<KvLayer<B>>>,
    shape: KvShape,
    blocks: usize,
    dtype: KvDtype,
    device: B::Device,
    pool: BlockPool,
    index: PrefixIndex,
    sequences: HashMap<SequenceId, Held>,
    next_sequence: usize,
}

/// A sequence.
#[derive(Debug)]
struct Held {
    table: BlockTable,
    /// Positions held.
    len: usize,
    /// Blocks at the table's beginning that are findable, all of them full; those behind are held by
    /// nobody else.
    published: usize,
    salt: u64,
}

impl Held {
    /// Gives back the blocks beyond the first `keep`, the last first: among the cached ones a block is
    /// always older than those before it.
    fn release_tail(&mut self, keep: usize, pool: &mut BlockPool) {
        while self.table.len() > keep {
            let Some(block) = self.table.pop() else { break };
            pool.release(block, self.table.len() < self.published);
        }
    }
}

impl<B: Backend> PagedKvCache<B> {
    /// An empty cache for a model of `shape`, with `blocks` blocks of `dtype` in a layer's pool.
    ///
    /// # Panics
    /// For `2^32 - 1` blocks or more.
    pub fn new(shape: KvShape, blocks: usize, dtype: KvDtype, device: &B::Device) -> Self {
        Self {
            layers: iter::repeat_with(|| None).take(shape.layers).collect(),
            shape,
            blocks,
            dtype,
            device: device.clone(),
            pool: BlockPool::new(blocks),
            index: PrefixIndex::new(blocks),
            sequences: HashMap::new(),
            next_sequence: 0,
        }
    }

    fn held(&self, sequence: SequenceId) -> Result<&Held, KvCacheError> {
        self.sequences.get(&sequence).ok_or(KvCacheError::UnknownSequence(sequence))
    }

    fn held_mut(&mut self, sequence: SequenceId) -> Result<&mut Held, KvCacheError> {
        self.sequences.get_mut(&sequence).ok_or(KvCacheError::UnknownSequence(sequence))
    }
}

/// A block to write to: a free one, else the one whose contents were unused the longest.
fn take(pool: &mut BlockPool, index: &mut PrefixIndex) -> Option<BlockRef> {
    if pool.usage().free() == 0 {
        index.forget(pool.evict_oldest()?);
    }
    pool.take()
}

impl<B: Backend> KvCache<B> for PagedKvCache<B> {
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError> {
        self.held(sequence).map(|held| (held.table.blocks(), held.len))
    }

    fn reserve(&mut self, sequence: SequenceId, additional: usize) -> Result<(), KvCacheError> {
        let Self { pool, index, sequences, .. } = self;
        let held = sequences.get_mut(&sequence);
        let held = held.ok_or(KvCacheError::UnknownSequence(sequence))?;
        let requested = held.len.saturating_add(additional);
        let usage = pool.usage();
        let available = (held.table.len() + usage.free() + usage.cached) * KV_BLOCK;
        if requested > available {
            return Err(KvCacheError::Full { requested, available });
        }
        let missing = requested.div_ceil(KV_BLOCK).saturating_sub(held.table.len());
        for block in iter::from_fn(|| take(pool, index)).take(missing) {
            held.table.push(block);
        }
        Ok(())
    }

    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<B> {
        let Self { layers, dtype, device, .. } = self;
        let shape = [self.blocks, self.shape.key_value_heads, self.shape.head_dim];
        layers[layer].get_or_insert_with(|| KvLayer::zeros(shape, *dtype, device))
    }

    fn advance(&mut self, sequence: SequenceId, added: usize) -> Result<(), KvCacheError> {
        let held = self.held_mut(sequence)?;
        let requested = held.len.saturating_add(added);
        let available = held.table.len() * KV_BLOCK;
        if requested > available {
            return Err(KvCacheError::Full { requested, available });
        }
        held.len = requested;
        Ok(())
    }
}

impl<B: Backend> ServingCache<B> for PagedKvCache<B> {
    fn open(&mut self, tokens: &[u32], salt: u64) -> (SequenceId, usize) {
        let most = tokens.len().saturating_sub(1);
        let mut table = BlockTable::default();
        for block in self.index.prefix(&tokens[..most], salt) {
            let Some(block) = self.pool.hold(block) else { break };
            table.push(block);
        }
        let sequence = SequenceId(self.next_sequence);
        self.next_sequence += 1;
        let published = table.len();
        let len = published * KV_BLOCK;
        self.sequences.insert(sequence, Held { table, len, published, salt });
        (sequence, len)
    }

    fn publish(&mut self, sequence: SequenceId, tokens: &[u32]) -> Result<(), KvCacheError> {
        let Self { pool, index, sequences, .. } = self;
        let held = sequences.get_mut(&sequence);
        let held = held.ok_or(KvCacheError::UnknownSequence(sequence))?;
        let (blocks, _) = tokens[..held.len.min(tokens.len())].as_chunks::<KV_BLOCK>();
        for (at, tokens) in blocks.iter().enumerate().skip(held.published) {
            let parent = match at.checked_sub(1) {
                None => Parent::Salt(held.salt),
                Some(before) => Parent::Block(held.table.blocks()[before]),
            };
            let own = held.table.blocks()[at];
            let Some(found) = index.publish(parent, tokens, own) else { break };
            if found != own {
                let Some(found) = pool.hold(found) else { break };
                let own = held.table.replace(at, found);
                pool.release(own, false);
            }
            held.published = at + 1;
        }
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), KvCacheError> {
        let held = self.sequences.get_mut(&sequence);
        let held = held.ok_or(KvCacheError::UnknownSequence(sequence))?;
        let published = held.published * KV_BLOCK;
        if len < published {
            return Err(KvCacheError::Published { requested: len, published });
        }
        if len < held.len {
            held.len = len;
            held.release_tail(len.div_ceil(KV_BLOCK), &mut self.pool);
        }
        Ok(())
    }

    fn close(&mut self, sequence: SequenceId) -> Result<(), KvCacheError> {
        let held = self.sequences.remove(&sequence);
        let mut held = held.ok_or(KvCacheError::UnknownSequence(sequence))?;
        held.release_tail(0, &mut self.pool);
        Ok(())
    }

    fn reset(&mut self) {
        let blocks = self.usage().blocks;
        self.layers.fill_with(|| None);
        self.pool = BlockPool::new(blocks);
        self.index = PrefixIndex::new(blocks);
        self.sequences.clear();
    }

    fn usage(&self) -> KvUsage {
        self.pool.usage()
    }
}

impl<B: Backend> std::fmt::Debug for PagedKvCache<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PagedKvCache")
            .field("layers", &self.layers.len())
            .field("usage", &self.usage())
            .field("sequences", &self.sequences.len())
            .finish_non_exhaustive()
    }
}
