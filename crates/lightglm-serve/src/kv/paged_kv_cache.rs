//! `PagedKvCache`: blocks in any order, shared between sequences with the same beginning.
//!
//! Shapes: `P` blocks in a layer's pool, `K` kv heads, `d` head_dim.

use std::collections::HashMap;
use std::iter;

use burn::tensor::backend::Backend;
use lightglm_core::{
    KV_BLOCK, KvCache, KvCacheError, KvDtype, KvLayer, PageBudget, SelectedKvLayer, SequenceId,
};

use super::block_pool::{BlockPool, BlockRef};
use super::block_table::BlockTable;
use super::copy_block::copy_block;
use super::prefix_index::{Parent, PrefixIndex};
use super::serving_cache::{KvUsage, ServingCache};

/// Makes the pool of a layer: called with the layer and the number of blocks.
pub type MakeLayer<B> = Box<dyn Fn(usize, usize) -> KvLayer<B> + Send>;

/// A cache of `P` blocks of [`KV_BLOCK`] positions that all sequences share.
///
/// A layer's pool is made on the layer's first use. Sequences are opened ([`ServingCache::open`]);
/// ids count from 0 and are not used again. What is written depends on nothing that was in a block
/// before, so blocks go from one sequence to the next as they are.
pub struct PagedKvCache<B: Backend> {
    make_layer: MakeLayer<B>,
    layers: Vec<Option<KvLayer<B>>>,
    pool: BlockPool,
    index: PrefixIndex,
    sequences: HashMap<SequenceId, Held>,
    next_sequence: usize,
    max_positions: usize,
}

/// A sequence.
#[derive(Debug)]
struct Held {
    table: BlockTable,
    /// Positions held.
    len: usize,
    /// Blocks at the table's beginning that are findable. After a truncation in the middle of one
    /// they reach beyond `len`.
    published: usize,
    salt: u64,
}

impl Held {
    /// Whether the next position lies in a findable block, which must not be written to.
    fn ends_in_findable(&self) -> bool {
        self.len < self.published * KV_BLOCK
    }
}

impl<B: Backend> PagedKvCache<B> {
    /// An empty cache of `blocks` blocks for a model of `layers` layers, whose pools `make_layer`
    /// makes.
    ///
    /// # Panics
    /// For `2^32 - 1` blocks or more.
    pub fn new(layers: usize, blocks: usize, make_layer: MakeLayer<B>) -> Self {
        Self {
            make_layer,
            layers: iter::repeat_with(|| None).take(layers).collect(),
            pool: BlockPool::new(blocks),
            index: PrefixIndex::new(blocks),
            sequences: HashMap::new(),
            next_sequence: 0,
            max_positions: blocks * KV_BLOCK,
        }
    }

    /// An empty cache whose layers all have pools of `dtype`: `shape` is `[P, K, d]`.
    ///
    /// # Panics
    /// For `2^32 - 1` blocks or more.
    pub fn of_dtype(layers: usize, shape: [usize; 3], dtype: KvDtype, device: &B::Device) -> Self {
        let device = device.clone();
        let make_layer = move |_, _| KvLayer::zeros(shape, dtype, &device);
        Self::new(layers, shape[0], Box::new(make_layer))
    }

    /// [`PagedKvCache::of_dtype`] with decode steps that read `budget` positions at most
    /// ([`SelectedKvLayer`]) in all layers but the first `skip_layers`.
    ///
    /// A block starts its bounds anew with its first position, so it is safe to use again. But a
    /// decode step over selected pages is not the prefill of the same token, and bounds stay wide
    /// where positions were forgotten: what a sequence gets then depends on whether its beginning was
    /// found, on how often it was interrupted and on what was truncated. Who needs the same bits every
    /// time needs a cache without a budget.
    ///
    /// # Panics
    /// For `2^32 - 1` blocks or more.
    pub fn of_dtype_selected(
        layers: usize,
        shape: [usize; 3],
        dtype: KvDtype,
        budget: PageBudget,
        skip_layers: usize,
        device: &B::Device,
    ) -> Self {
        let device = device.clone();
        let make_layer = move |layer, _| {
            let pool = KvLayer::zeros(shape, dtype, &device);
            if layer < skip_layers {
                return pool;
            }
            KvLayer::Selected(Box::new(SelectedKvLayer::new(pool, shape, budget, &device)))
        };
        Self::new(layers, shape[0], Box::new(make_layer))
    }

    /// The cache with sequences of at most `max_positions` positions.
    pub fn with_max_positions(mut self, max_positions: usize) -> Self {
        self.max_positions = max_positions.min(self.usage().blocks * KV_BLOCK);
        self
    }

    /// Positions that a sequence can hold at most.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// Makes free what nobody holds: nothing of it is found any more.
    pub fn forget_cached(&mut self) {
        while let Some(block) = self.pool.evict_oldest() {
            self.index.forget(block);
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

/// Gives back the blocks of a table beyond the first `keep`, the last first: among the cached ones a
/// block is always older than those before it.
fn release_tail(table: &mut BlockTable, keep: usize, pool: &mut BlockPool, index: &PrefixIndex) {
    while table.len() > keep {
        let Some(block) = table.pop() else { break };
        let findable = index.contains(block.index());
        pool.release(block, findable);
    }
}

/// Makes the last block of a sequence that ends within a findable one its own.
///
/// Nobody else's and continued by nothing, it just ceases to be findable. Else its contents are
/// copied; there is a block for that where the caller has made sure of one for a block that others
/// hold, because what continues a block that only this sequence holds is held by nobody.
fn own_last_block<B: Backend>(
    held: &mut Held,
    layers: &mut [Option<KvLayer<B>>],
    pool: &mut BlockPool,
    index: &mut PrefixIndex,
) {
    let at = held.published - 1;
    let block = held.table.blocks()[at];
    if pool.holders(block) == 1 && index.is_leaf(block) {
        index.forget(block);
        held.published = at;
    } else if let Some(copy) = take(pool, index) {
        for layer in layers.iter_mut().flatten() {
            copy_block(layer, block, copy.index());
        }
        let shared = held.table.replace(at, copy);
        pool.release(shared, true);
        held.published = at;
    }
}

impl<B: Backend> KvCache<B> for PagedKvCache<B> {
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError> {
        self.held(sequence).map(|held| (held.table.blocks(), held.len))
    }

    fn reserve(&mut self, sequence: SequenceId, additional: usize) -> Result<(), KvCacheError> {
        let Self { layers, pool, index, sequences, max_positions, .. } = self;
        let held = sequences.get_mut(&sequence);
        let held = held.ok_or(KvCacheError::UnknownSequence(sequence))?;
        if additional == 0 {
            return Ok(());
        }
        let requested = held.len.saturating_add(additional);
        let missing = requested.div_ceil(KV_BLOCK).saturating_sub(held.table.len());
        let findable = held.ends_in_findable();
        let shared = findable && pool.holders(held.table.blocks()[held.published - 1]) > 1;
        let usage = pool.usage();
        let available = match (usage.free() + usage.cached).checked_sub(usize::from(shared)) {
            Some(room) => (held.table.len() + room) * KV_BLOCK,
            None => held.len,
        };
        let available = available.min(*max_positions);
        if requested > available {
            return Err(KvCacheError::Full { requested, available });
        }
        for block in iter::from_fn(|| take(pool, index)).take(missing) {
            held.table.push(block);
        }
        if findable {
            own_last_block(held, layers, pool, index);
        }
        Ok(())
    }

    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<B> {
        let blocks = self.pool.usage().blocks;
        self.layers[layer].get_or_insert_with(|| (self.make_layer)(layer, blocks))
    }

    fn advance(&mut self, sequence: SequenceId, added: usize) -> Result<(), KvCacheError> {
        let max_positions = self.max_positions;
        let held = self.held_mut(sequence)?;
        let requested = held.len.saturating_add(added);
        let available = match held.ends_in_findable() {
            true => held.len,
            false => (held.table.len() * KV_BLOCK).min(max_positions),
        };
        if requested > available {
            return Err(KvCacheError::Full { requested, available });
        }
        held.len = requested;
        Ok(())
    }
}

impl<B: Backend> ServingCache<B> for PagedKvCache<B> {
    fn open(&mut self, tokens: &[u32], salt: u64) -> (SequenceId, usize) {
        let most = tokens.len().saturating_sub(1).min(self.max_positions) / KV_BLOCK * KV_BLOCK;
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
        let Self { pool, index, sequences, .. } = self;
        let held = sequences.get_mut(&sequence);
        let held = held.ok_or(KvCacheError::UnknownSequence(sequence))?;
        if len < held.len {
            let keep = len.div_ceil(KV_BLOCK);
            release_tail(&mut held.table, keep, pool, index);
            held.len = len;
            held.published = held.published.min(keep);
        }
        Ok(())
    }

    fn close(&mut self, sequence: SequenceId) -> Result<(), KvCacheError> {
        let held = self.sequences.remove(&sequence);
        let mut held = held.ok_or(KvCacheError::UnknownSequence(sequence))?;
        release_tail(&mut held.table, 0, &mut self.pool, &self.index);
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
            .field("max_positions", &self.max_positions)
            .finish_non_exhaustive()
    }
}
