//! `Unshared`: a serving cache that never finds anything.

use burn_flex::Flex;
use lightglm_core::{KvCache, KvCacheError, KvLayer, SequenceId};
use lightglm_serve::kv::{KvUsage, ServingCache};
use lightglm_testkit::ShuffledKvCache;

/// The testkit's cache, and who is open.
pub(crate) struct Unshared {
    make: fn() -> ShuffledKvCache<Flex>,
    cache: ShuffledKvCache<Flex>,
    blocks: usize,
    open: Vec<SequenceId>,
}

impl Unshared {
    pub(crate) fn new(make: fn() -> ShuffledKvCache<Flex>) -> Self {
        let mut cache = make();
        let blocks = cache.layer_mut(0).blocks();
        Self { make, cache, blocks, open: Vec::new() }
    }
}

impl KvCache<Flex> for Unshared {
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError> {
        self.cache.sequence(sequence)
    }

    fn reserve(&mut self, sequence: SequenceId, additional: usize) -> Result<(), KvCacheError> {
        self.cache.reserve(sequence, additional)
    }

    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<Flex> {
        self.cache.layer_mut(layer)
    }

    fn advance(&mut self, sequence: SequenceId, added: usize) -> Result<(), KvCacheError> {
        self.cache.advance(sequence, added)
    }
}

impl ServingCache<Flex> for Unshared {
    fn open(&mut self, _: &[u32], _: u64) -> (SequenceId, usize) {
        let sequence = self.cache.add_sequence();
        self.open.push(sequence);
        (sequence, 0)
    }

    fn publish(&mut self, sequence: SequenceId, _: &[u32]) -> Result<(), KvCacheError> {
        self.cache.sequence(sequence).map(|_| ())
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), KvCacheError> {
        self.cache.truncate(sequence, len)
    }

    fn close(&mut self, sequence: SequenceId) -> Result<(), KvCacheError> {
        self.open.retain(|&other| other != sequence);
        self.cache.remove(sequence)
    }

    fn reset(&mut self) {
        *self = Self::new(self.make);
    }

    fn usage(&self) -> KvUsage {
        let held = |&sequence| self.cache.sequence(sequence).map_or(0, |(table, _)| table.len());
        KvUsage { blocks: self.blocks, used: self.open.iter().map(held).sum(), cached: 0 }
    }
}
