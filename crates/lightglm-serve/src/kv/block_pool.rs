//! `BlockPool`: who holds a block, and which is evicted next.

use super::serving_cache::KvUsage;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// One holder's hold on a block.
///
/// It cannot be copied, and [`BlockPool::release`] takes it away: no block is given back twice.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a hold that is dropped instead of released keeps its block for ever"]
pub struct BlockRef(u32);

impl BlockRef {
    /// The block, as block tables name it.
    pub fn index(&self) -> u32 {
        self.0
    }
}

/// A fixed number of blocks with their holders, and an order of those that are kept without any.
///
/// Every call takes the same time, however many blocks there are: free blocks are a stack, kept ones
/// a doubly linked list through the blocks themselves, least recently released first.
///
/// ```
/// # use lightglm_serve::kv::BlockPool;
/// let mut pool = BlockPool::new(2);
/// let (parent, child) = (pool.take().unwrap(), pool.take().unwrap());
/// assert!(pool.take().is_none());
/// // Deepest first, so that the child is older.
/// let oldest = child.index();
/// pool.release(child, true);
/// pool.release(parent, true);
/// assert_eq!(pool.evict_oldest(), Some(oldest));
/// assert_eq!(pool.take().map(|block| block.index()), Some(oldest));
/// ```
///
/// What was released cannot be released again:
///
/// ```compile_fail
/// # use lightglm_serve::kv::BlockPool;
/// let mut pool = BlockPool::new(2);
/// let block = pool.take().unwrap();
/// pool.release(block, true);
/// pool.release(block, true);
/// ```
#[derive(Debug)]
pub struct BlockPool {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Ends of the list of kept blocks.
    oldest: u32,
    newest: u32,
    used: usize,
    kept: usize,
}

/// Held where it has holders, else kept or free.
#[derive(Clone, Copy, Debug)]
struct Slot {
    holders: u32,
    kept: bool,
    /// Neighbours in the list of kept blocks.
    older: u32,
    newer: u32,
}

impl BlockPool {
    /// A pool of free blocks, to be handed out counting from 0.
    ///
    /// # Panics
    /// For `2^32 - 1` blocks or more.
    pub fn new(blocks: usize) -> Self {
        let count = u32::try_from(blocks).ok().filter(|&count| count != NONE);
        assert!(count.is_some(), "a KV pool has less than 2^32 - 1 blocks, not {blocks}");
        let slot = Slot { holders: 0, kept: false, older: NONE, newer: NONE };
        Self {
            slots: vec![slot; blocks],
            free: (0..count.unwrap_or(0)).rev().collect(),
            oldest: NONE,
            newest: NONE,
            used: 0,
            kept: 0,
        }
    }

    /// Where the blocks are; kept ones are the cached ones.
    pub fn usage(&self) -> KvUsage {
        KvUsage { blocks: self.slots.len(), used: self.used, cached: self.kept }
    }

    /// Holders of `block`; 0 also for one that the pool does not have.
    pub fn holders(&self, block: u32) -> usize {
        self.slots.get(block as usize).map_or(0, |slot| slot.holders as usize)
    }

    /// A free block, of which the caller is the only holder; the one given back last.
    pub fn take(&mut self) -> Option<BlockRef> {
        let block = self.free.pop()?;
        self.slots[block as usize].holders = 1;
        self.used += 1;
        Some(BlockRef(block))
    }

    /// One more hold on a block that is held or kept; `None` where it is free, or not in the pool.
    pub fn hold(&mut self, block: u32) -> Option<BlockRef> {
        let slot = *self.slots.get(block as usize)?;
        if slot.kept {
            self.unlink(block);
        } else if slot.holders == 0 {
            return None;
        }
        self.used += usize::from(slot.holders == 0);
        self.slots[block as usize].holders += 1;
        Some(BlockRef(block))
    }

    /// Gives a hold up. With the last one the block becomes the newest of the kept ones where `keep`
    /// says so, else free.
    pub fn release(&mut self, block: BlockRef, keep: bool) {
        let BlockRef(block) = block;
        // A hold on another pool's block is no hold on this one's.
        let Some(slot) = self.slots.get_mut(block as usize).filter(|slot| slot.holders > 0) else {
            return;
        };
        slot.holders -= 1;
        if slot.holders > 0 {
            return;
        }
        self.used -= 1;
        if keep {
            self.link_newest(block);
        } else {
            self.free.push(block);
        }
    }

    /// Makes the oldest kept block a free one and names it.
    pub fn evict_oldest(&mut self) -> Option<u32> {
        let block = self.oldest;
        if block == NONE {
            return None;
        }
        self.unlink(block);
        self.free.push(block);
        Some(block)
    }

    fn link_newest(&mut self, block: u32) {
        let older = std::mem::replace(&mut self.newest, block);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = block,
            None => self.oldest = block,
        }
        let slot = &mut self.slots[block as usize];
        (slot.kept, slot.older, slot.newer) = (true, older, NONE);
        self.kept += 1;
    }

    fn unlink(&mut self, block: u32) {
        let slot = &mut self.slots[block as usize];
        let (older, newer) = (slot.older, slot.newer);
        (slot.kept, slot.older, slot.newer) = (false, NONE, NONE);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        self.kept -= 1;
    }
}
