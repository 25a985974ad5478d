//! `ShuffledKvCache`: the KV cache whose blocks come in no order.
//!
//! Shapes: `P` blocks in the pool, `K` kv heads, `d` head_dim.

use burn::tensor::{DType, Tensor, backend::Backend};
use lightglm_core::{KV_BLOCK, KvCache, KvCacheError, KvLayer, SequenceId};

use crate::split_mix::SplitMix;

/// A cache of `P` blocks that all sequences share and that are handed out in a shuffled order.
///
/// What a paged cache does, without eviction and sharing. The pools start out filled with a number
/// far from zero: a model that reads a position it never wrote gives visibly wrong logits.
#[derive(Clone, Debug)]
pub struct ShuffledKvCache<B: Backend> {
    layers: Vec<KvLayer<B>>,
    sequences: Vec<Option<Held>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    table: Vec<u32>,
    len: usize,
}

impl<B: Backend> ShuffledKvCache<B> {
    /// A cache of `layers` pools, `keys: [blocks, kv_heads, head_dim, KV_BLOCK]` in `dtype`, and no
    /// sequence.
    pub fn new(
        layers: usize,
        [blocks, kv_heads, head_dim]: [usize; 3],
        dtype: DType,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let mut random = SplitMix::new(seed);
        let mut free: Vec<u32> = (0..blocks as u32).collect();
        for last in (1..free.len()).rev() {
            free.swap(last, random.below(last + 1));
        }
        let pool =
            |shape: [usize; 4]| Tensor::<B, 4>::full(shape, 7.0, device).cast(to_float(dtype));
        let layer = || KvLayer {
            keys: pool([blocks, kv_heads, head_dim, KV_BLOCK]),
            values: pool([blocks, kv_heads, KV_BLOCK, head_dim]),
        };
        let layers = (0..layers).map(|_| layer()).collect();
        Self { layers, sequences: Vec::new(), free }
    }

    /// [`ShuffledKvCache::new`] with `sequences` empty sequences, ids counting from 0.
    pub fn with_sequences(mut self, sequences: usize) -> Self {
        for _ in 0..sequences {
            self.add_sequence();
        }
        self
    }

    /// Adds an empty sequence.
    pub fn add_sequence(&mut self) -> SequenceId {
        self.sequences.push(Some(Held::default()));
        SequenceId(self.sequences.len() - 1)
    }

    /// Forgets a sequence and takes its blocks back.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`].
    pub fn remove(&mut self, sequence: SequenceId) -> Result<(), KvCacheError> {
        let slot = self.sequences.get_mut(sequence.0).and_then(Option::take);
        let held = slot.ok_or(KvCacheError::UnknownSequence(sequence))?;
        self.free.extend(held.table);
        Ok(())
    }

    /// Forgets all but the first `len` positions of a sequence and takes the blocks behind them
    /// back.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`].
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), KvCacheError> {
        let slot = self.sequences.get_mut(sequence.0).and_then(Option::as_mut);
        let held = slot.ok_or(KvCacheError::UnknownSequence(sequence))?;
        if len < held.len {
            held.len = len;
            self.free.extend(held.table.drain(len.div_ceil(KV_BLOCK)..));
        }
        Ok(())
    }

    fn held(&self, sequence: SequenceId) -> Result<&Held, KvCacheError> {
        let slot = self.sequences.get(sequence.0).and_then(Option::as_ref);
        slot.ok_or(KvCacheError::UnknownSequence(sequence))
    }
}

fn to_float(dtype: DType) -> burn::tensor::FloatDType {
    dtype.into()
}

impl<B: Backend> KvCache<B> for ShuffledKvCache<B> {
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError> {
        self.held(sequence).map(|held| (held.table.as_slice(), held.len))
    }

    fn reserve(&mut self, sequence: SequenceId, additional: usize) -> Result<(), KvCacheError> {
        let held = self.held(sequence)?;
        let requested = held.len.saturating_add(additional);
        let missing = requested.div_ceil(KV_BLOCK).saturating_sub(held.table.len());
        if missing > self.free.len() {
            let available = (held.table.len() + self.free.len()) * KV_BLOCK;
            return Err(KvCacheError::Full { requested, available });
        }
        let blocks = self.free.split_off(self.free.len() - missing);
        if let Some(Some(held)) = self.sequences.get_mut(sequence.0) {
            held.table.extend(blocks);
        }
        Ok(())
    }

    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<B> {
        &mut self.layers[layer]
    }

    fn advance(&mut self, sequence: SequenceId, added: usize) -> Result<(), KvCacheError> {
        let slot = self.sequences.get_mut(sequence.0).and_then(Option::as_mut);
        let held = slot.ok_or(KvCacheError::UnknownSequence(sequence))?;
        let requested = held.len.saturating_add(added);
        let available = held.table.len() * KV_BLOCK;
        if requested > available {
            return Err(KvCacheError::Full { requested, available });
        }
        held.len = requested;
        Ok(())
    }
}
