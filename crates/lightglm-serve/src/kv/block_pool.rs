//! `BlockPool`: who holds a block, and which is evicted next.

use super::serving_cache::KvUsage;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// One holder's hold on a block.
///
/// It cannot be copied, and [`BlockPool::release`] takes it away: no block is given back twice.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a hold that is dropped instead of released keeps its block for ever"]
pub(super) struct BlockRef(u32);

impl BlockRef {
    /// The block, as block tables name it.
    pub(super) fn index(&self) -> u32 {
        self.0
    }
}

/// A fixed number of blocks with their holders, and an order of those that are kept without any.
///
/// Every call takes the same time, however many blocks there are: free blocks are a stack, kept ones
/// a doubly linked list through the blocks themselves, least recently released first.
#[derive(Debug)]
pub(super) struct BlockPool {
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
    pub(super) fn new(blocks: usize) -> Self {
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
    pub(super) fn usage(&self) -> KvUsage {
        KvUsage { blocks: self.slots.len(), used: self.used, cached: self.kept }
    }

    /// A free block, of which the caller is the only holder; the one given back last.
    pub(super) fn take(&mut self) -> Option<BlockRef> {
        let block = self.free.pop()?;
        self.slots[block as usize].holders = 1;
        self.used += 1;
        Some(BlockRef(block))
    }

    /// One more hold on a block that is held or kept; `None` where it is free, or not in the pool.
    pub(super) fn hold(&mut self, block: u32) -> Option<BlockRef> {
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
    pub(super) fn release(&mut self, block: BlockRef, keep: bool) {
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
    pub(super) fn evict_oldest(&mut self) -> Option<u32> {
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

/// Against a list of holds and a queue.
#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Take,
        Hold(u32),
        /// Which of the holds, and whether to keep.
        Release(usize, bool),
        Evict,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => Just(Op::Take),
            2 => (0u32..10).prop_map(Op::Hold),
            4 => (any::<usize>(), any::<bool>()).prop_map(|(pick, keep)| Op::Release(pick, keep)),
            1 => Just(Op::Evict),
        ]
    }

    fn holders(holds: &[BlockRef], block: u32) -> usize {
        holds.iter().filter(|hold| hold.index() == block).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn is_a_set_of_holds_and_a_queue(
            blocks in 0usize..9,
            ops in proptest::collection::vec(op(), 0..120),
        ) {
            let mut pool = BlockPool::new(blocks);
            let mut holds: Vec<BlockRef> = Vec::new();
            let mut kept: VecDeque<u32> = VecDeque::new();
            for op in ops {
                let used = (0..blocks as u32).filter(|&block| holders(&holds, block) > 0).count();
                match op {
                    Op::Take => {
                        let taken = pool.take();
                        prop_assert_eq!(taken.is_some(), used + kept.len() < blocks);
                        if let Some(block) = taken {
                            prop_assert_eq!(holders(&holds, block.index()), 0);
                            prop_assert!(!kept.contains(&block.index()));
                            holds.push(block);
                        }
                    }
                    Op::Hold(block) => {
                        let known = holders(&holds, block) > 0 || kept.contains(&block);
                        let held = pool.hold(block);
                        prop_assert_eq!(held.as_ref().map(BlockRef::index), known.then_some(block));
                        kept.retain(|&other| other != block);
                        holds.extend(held);
                    }
                    Op::Release(pick, keep) if !holds.is_empty() => {
                        let hold = holds.swap_remove(pick % holds.len());
                        let block = hold.index();
                        pool.release(hold, keep);
                        if keep && holders(&holds, block) == 0 {
                            kept.push_back(block);
                        }
                    }
                    Op::Release(..) => {}
                    Op::Evict => prop_assert_eq!(pool.evict_oldest(), kept.pop_front()),
                }
                let used = (0..blocks as u32).filter(|&block| holders(&holds, block) > 0).count();
                let expected = KvUsage { blocks, used, cached: kept.len() };
                prop_assert_eq!(pool.usage(), expected);
                for (block, slot) in (0..).zip(&pool.slots) {
                    prop_assert_eq!(slot.holders as usize, holders(&holds, block));
                }
            }
            for hold in holds.drain(..) {
                pool.release(hold, false);
            }
            while let Some(block) = pool.evict_oldest() {
                prop_assert_eq!(Some(block), kept.pop_front());
            }
            prop_assert_eq!(pool.usage().free(), blocks);
            let all = std::iter::from_fn(|| pool.take()).map(|hold| {
                let block = hold.index();
                holds.push(hold);
                block
            });
            let mut all: Vec<u32> = all.collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..blocks as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_hold_on_another_pools_block_changes_nothing() {
        let (mut pool, mut other) = (BlockPool::new(1), BlockPool::new(3));
        let foreign: Vec<BlockRef> = std::iter::from_fn(|| other.take()).collect();
        for hold in foreign {
            pool.release(hold, true);
        }
        assert_eq!(pool.usage(), KvUsage { blocks: 1, used: 0, cached: 0 });
        assert_eq!(pool.take().map(|hold| hold.index()), Some(0));
        assert!(pool.take().is_none());
    }
}
