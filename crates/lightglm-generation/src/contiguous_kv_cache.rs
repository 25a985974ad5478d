//! `ContiguousKvCache`: a run of blocks per sequence, counting upwards.
//!
//! Shapes: `P` blocks in a layer's pool, `K` kv heads, `d` head_dim.

use burn::tensor::{DType, Distribution, Int, Tensor, TensorData, backend::Backend};
use lightglm_core::{
    KV_BLOCK, KvCache, KvCacheError, KvDtype, KvLayer, KvShape, PageBudget, SelectedKvLayer,
    SequenceId,
};

/// Room for `max_positions` positions in each of a fixed number of sequences.
///
/// Sequence `s` owns the blocks `s * n .. (s + 1) * n` of every pool. A layer's pool is made on the
/// layer's first use, and on backends that ask the operating system for zeroed memory its pages are
/// only taken as they are written.
#[derive(Clone, Debug)]
pub struct ContiguousKvCache<B: Backend> {
    layers: Vec<Option<KvLayer<B>>>,
    sequences: Vec<Held>,
    shape: KvShape,
    max_positions: usize,
    dtype: KvDtype,
    /// The budget, and the first layer that has it.
    selection: Option<(PageBudget, usize)>,
    device: B::Device,
}

#[derive(Clone, Debug)]
struct Held {
    /// The whole run of blocks; the first `reserved` are handed out.
    blocks: Vec<u32>,
    reserved: usize,
    len: usize,
}

impl<B: Backend> ContiguousKvCache<B> {
    /// An empty cache for a model of `shape`: per layer a [`KvLayer`] of
    /// `P = sequences * ceil(max_positions / KV_BLOCK)` blocks, with the sequences `SequenceId(0)` to
    /// `SequenceId(sequences - 1)`.
    ///
    /// # Panics
    /// Where the pool would have 2^32 blocks or more.
    pub fn new(
        shape: KvShape,
        sequences: usize,
        max_positions: usize,
        dtype: KvDtype,
        device: &B::Device,
    ) -> Self {
        let per_sequence = max_positions.div_ceil(KV_BLOCK);
        let blocks = per_sequence.checked_mul(sequences).and_then(|all| u32::try_from(all).ok());
        assert!(blocks.is_some(), "a KV pool has less than 2^32 blocks");
        let held = |sequence: usize| {
            let first = (sequence * per_sequence) as u32;
            let blocks = (first..first + per_sequence as u32).collect();
            Held { blocks, reserved: 0, len: 0 }
        };
        Self {
            layers: (0..shape.layers).map(|_| None).collect(),
            sequences: (0..sequences).map(held).collect(),
            shape,
            max_positions,
            dtype,
            selection: None,
            device: device.clone(),
        }
    }

    /// The cache with decode steps that read `budget` positions at most ([`SelectedKvLayer`]) in all
    /// layers but the first `skip_layers`; Quest leaves the first two exact.
    ///
    /// To be called on an empty cache: what its pools hold is forgotten.
    pub fn with_page_budget(mut self, budget: PageBudget, skip_layers: usize) -> Self {
        self.selection = Some((budget, skip_layers));
        self.layers.fill_with(|| None);
        self
    }

    /// Keeps the first `len` positions of `sequence` and forgets the rest; nothing happens where it
    /// holds no more than that.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`].
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), KvCacheError> {
        let held = self.held_mut(sequence)?;
        if len < held.len {
            held.len = len;
            held.reserved = len.div_ceil(KV_BLOCK);
        }
        Ok(())
    }

    /// Forgets all positions of `sequence`.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`].
    pub fn clear(&mut self, sequence: SequenceId) -> Result<(), KvCacheError> {
        self.truncate(sequence, 0)
    }

    /// Makes every sequence hold `positions` random keys and values, for measurements at a depth.
    ///
    /// Zeros would not do: untouched pages of zeros share one physical page, and reading them costs
    /// nothing.
    ///
    /// # Errors
    /// [`KvCacheError::Full`].
    pub fn fill_random(&mut self, positions: usize) -> Result<(), KvCacheError> {
        for index in 0..self.layers.len() {
            let device = self.device.clone();
            fill_layer(self.layer_mut(index), index as u32, &device);
        }
        for sequence in (0..self.sequences.len()).map(SequenceId) {
            self.reserve(sequence, positions)?;
            self.advance(sequence, positions)?;
        }
        Ok(())
    }

    /// Bytes that one position of one sequence takes, keys and values of all layers, scales included.
    pub fn bytes_per_position(&self) -> usize {
        self.shape.bytes_per_position(self.dtype)
    }

    /// Positions each sequence can hold.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn held(&self, sequence: SequenceId) -> Result<&Held, KvCacheError> {
        self.sequences.get(sequence.0).ok_or(KvCacheError::UnknownSequence(sequence))
    }

    fn held_mut(&mut self, sequence: SequenceId) -> Result<&mut Held, KvCacheError> {
        self.sequences.get_mut(sequence.0).ok_or(KvCacheError::UnknownSequence(sequence))
    }
}

/// Random keys and values, and bounds that hold for them.
fn fill_layer<B: Backend>(layer: &mut KvLayer<B>, seed: u32, device: &B::Device) {
    match layer {
        KvLayer::Float(layer) => {
            layer.keys = noise(&layer.keys, device);
            layer.values = noise(&layer.values, device);
        }
        KvLayer::Int8(layer) => {
            layer.key_codes = noisy_codes(&layer.key_codes, seed, device);
            layer.value_codes = noisy_codes(&layer.value_codes, !seed, device);
            layer.key_scales = layer.key_scales.ones_like() / 127.0;
            layer.value_scales = layer.value_scales.ones_like() / 127.0;
        }
        KvLayer::Selected(layer) => {
            fill_layer(&mut layer.pool, seed, device);
            layer.bounds = bounds_of(&layer.pool, layer.bounds.dims());
        }
    }
}

/// Bounds `[P, K, 2, d]` of the keys that [`fill_layer`] has made.
fn bounds_of<B: Backend>(pool: &KvLayer<B>, shape: [usize; 4]) -> Tensor<B, 4> {
    let [p, k, _, d] = shape;
    let (least, most) = match pool {
        KvLayer::Float(layer) => {
            let keys = layer.keys.clone().cast(DType::F32);
            (keys.clone().min_dim(3).swap_dims(2, 3), keys.max_dim(3).swap_dims(2, 3))
        }
        KvLayer::Int8(layer) => {
            let keys = layer.key_codes.clone().float().cast(DType::F32) / 127.0;
            let flat =
                |x: Tensor<B, 5>| x.reshape([p, k, 1, d.next_multiple_of(4)]).narrow(3, 0, d);
            let (least, most) = (flat(keys.clone().min_dim(3)), flat(keys.max_dim(3)));
            if layer.rotate_keys {
                // The stored basis is another: no coordinate exceeds the norm.
                let norm = (d as f64).sqrt();
                (least.zeros_like() - norm, most.zeros_like() + norm)
            } else {
                (least, most)
            }
        }
        KvLayer::Selected(layer) => return layer.bounds.clone(),
    };
    Tensor::cat(vec![least, most], 2)
}

/// Numbers between -1 and 1 in the shape and type of `like`.
fn noise<B: Backend, const D: usize>(like: &Tensor<B, D>, device: &B::Device) -> Tensor<B, D> {
    Tensor::random(like.dims(), Distribution::Uniform(-1.0, 1.0), (device, like.dtype()))
}

/// Codes between -127 and 127 in the shape of `like`.
fn noisy_codes<B: Backend>(
    like: &Tensor<B, 5, Int>,
    seed: u32,
    device: &B::Device,
) -> Tensor<B, 5, Int> {
    let code = |i: u32| {
        let mixed = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        ((mixed ^ mixed >> 13).wrapping_mul(0xc2b2_ae35) >> 24) as i8
    };
    let codes = (0..like.shape().num_elements() as u32).map(|i| code(i).max(-127));
    let codes: Vec<i8> = codes.collect();
    Tensor::from_data(TensorData::new(codes, like.dims()), (device, DType::I8))
}

impl<B: Backend> KvCache<B> for ContiguousKvCache<B> {
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError> {
        let held = self.held(sequence)?;
        Ok((&held.blocks[..held.reserved], held.len))
    }

    fn reserve(&mut self, sequence: SequenceId, additional: usize) -> Result<(), KvCacheError> {
        let available = self.max_positions;
        let held = self.held_mut(sequence)?;
        let requested = held.len.saturating_add(additional);
        if requested > available {
            return Err(KvCacheError::Full { requested, available });
        }
        held.reserved = held.reserved.max(requested.div_ceil(KV_BLOCK));
        Ok(())
    }

    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<B> {
        let blocks = self.sequences.iter().map(|held| held.blocks.len()).sum();
        let shape = [blocks, self.shape.key_value_heads, self.shape.head_dim];
        let (device, dtype) = (&self.device, self.dtype);
        let selection = self.selection.filter(|&(_, first)| layer >= first);
        self.layers[layer].get_or_insert_with(|| {
            let pool = KvLayer::zeros(shape, dtype, device);
            match selection {
                None => pool,
                Some((budget, _)) => {
                    KvLayer::Selected(Box::new(SelectedKvLayer::new(pool, shape, budget, device)))
                }
            }
        })
    }

    fn advance(&mut self, sequence: SequenceId, added: usize) -> Result<(), KvCacheError> {
        let max_positions = self.max_positions;
        let held = self.held_mut(sequence)?;
        let requested = held.len.saturating_add(added);
        let available = (held.reserved * KV_BLOCK).min(max_positions);
        if requested > available {
            return Err(KvCacheError::Full { requested, available });
        }
        held.len = requested;
        Ok(())
    }
}
