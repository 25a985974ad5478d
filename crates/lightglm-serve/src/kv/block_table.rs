//! `BlockTable`: the blocks that one sequence holds.

use super::block_pool::BlockRef;

/// Holds on blocks, in the order of positions, and their names side by side as attention reads them.
#[derive(Debug, Default)]
pub(super) struct BlockTable {
    holds: Vec<BlockRef>,
    blocks: Vec<u32>,
}

impl BlockTable {
    pub(super) fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn push(&mut self, hold: BlockRef) {
        self.blocks.push(hold.index());
        self.holds.push(hold);
    }

    pub(super) fn pop(&mut self) -> Option<BlockRef> {
        self.blocks.pop();
        self.holds.pop()
    }

    /// Puts `hold` at `index`, and returns what was there.
    ///
    /// # Panics
    /// Where the table is not that long.
    pub(super) fn replace(&mut self, index: usize, hold: BlockRef) -> BlockRef {
        self.blocks[index] = hold.index();
        std::mem::replace(&mut self.holds[index], hold)
    }
}
