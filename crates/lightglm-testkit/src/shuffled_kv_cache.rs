//! `ShuffledKvCache`: the KV cache whose blocks come in no order.
//!
//! Shapes: `P` blocks in the pool, `K` kv heads, `d` head_dim.

use burn::tensor::{DType, backend::Backend};
use lightglm_core::{
    FloatKvLayer, Int8KvLayer, KV_BLOCK, KvCache, KvCacheError, KvLayer, SequenceId,
};

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
    /// A cache of `layers` pools of numbers in `dtype`, and no sequence: the shape is
    /// `[blocks, kv_heads, head_dim]`.
    pub fn new(
        layers: usize,
        shape: [usize; 3],
        dtype: DType,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let FloatKvLayer { keys, values } = FloatKvLayer::zeros(shape, dtype, device);
        let layer = KvLayer::Float(FloatKvLayer {
            keys: keys.full_like(7.0),
            values: values.full_like(7.0),
        });
        Self::over(vec![layer; layers], seed)
    }

    /// [`ShuffledKvCache::new`] with pools of eight-bit codes.
    pub fn new_int8(
        layers: usize,
        shape: [usize; 3],
        rotate_keys: bool,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let zeros = Int8KvLayer::zeros(shape, rotate_keys, device);
        let layer = KvLayer::Int8(Int8KvLayer {
            key_codes: zeros.key_codes.full_like(7),
            key_scales: zeros.key_scales.full_like(1.0),
            value_codes: zeros.value_codes.full_like(7),
            value_scales: zeros.value_scales.full_like(1.0),
            rotate_keys,
        });
        Self::over(vec![layer; layers], seed)
    }

    /// A cache over these pools, which all have as many blocks as the first.
    fn over(layers: Vec<KvLayer<B>>, seed: u64) -> Self {
        let blocks = layers.first().map_or(0, KvLayer::blocks);
        let mut random = SplitMix::new(seed);
        let mut free: Vec<u32> = (0..blocks as u32).collect();
        for last in (1..free.len()).rev() {
            free.swap(last, random.below(last + 1));
        }
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
