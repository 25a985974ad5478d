//! `TableLm`: a language model whose logits come from a table.
//!
//! Shapes: `R` requested rows, `V` vocab_size, `P` blocks, `K` kv heads, `d` head_dim.

use std::collections::{HashMap, HashSet};

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use lightglm_core::{
    CausalLm, FloatKvLayer, Int8KvLayer, KV_BLOCK, KvCache, KvCacheError, KvLayer, LmError,
    LogitRows, Span,
};

use crate::split_mix::mix;

/// A [`CausalLm`] without weights.
///
/// The logits after a token are a seeded hash of the last `window` tokens of its sequence, **read
/// back from the cache**: the model writes token ids into the key and value pools of layer 0 and
/// knows nothing else, so a wrong block table, a lost block or a wrong length gives other logits.
/// With [`TableLm::with_successors`] chosen tokens are followed by chosen tokens.
#[derive(Clone, Debug)]
pub struct TableLm<B: Backend> {
    vocab_size: usize,
    window: usize,
    seed: u64,
    max_positions: usize,
    successors: HashMap<u32, u32>,
    device: B::Device,
}

/// A token id is stored as three digits of this base, each plus one: exact in bf16 and in an
/// eight-bit code, never zero.
const DIGIT: u32 = 127;

/// Logits of the hash lie within this of zero.
const SPREAD: f32 = 4.0;

impl<B: Backend> TableLm<B> {
    /// Channels a cache must have per head (`d`): one per digit of a token id.
    pub const HEAD_DIM: usize = 3;

    /// A model of `vocab_size` tokens, at most 127^3, that looks back over `window` tokens.
    ///
    /// # Panics
    /// Where a token id would not fit in three digits, or `window` is zero.
    pub fn new(vocab_size: usize, window: usize, seed: u64, device: &B::Device) -> Self {
        assert!(vocab_size <= DIGIT.pow(3) as usize, "a token id has three digits of base 127");
        assert!(window > 0, "the logits must depend on something");
        let device = device.clone();
        let successors = HashMap::new();
        Self { vocab_size, window, seed, max_positions: usize::MAX, successors, device }
    }

    /// Refuses positions from `max_positions` on with [`LmError::TooLong`].
    pub fn with_max_positions(mut self, max_positions: usize) -> Self {
        self.max_positions = max_positions;
        self
    }

    /// Makes each token of `script` the most likely one after its predecessor, by 20 logits.
    ///
    /// A token that stands in the script twice is followed by its last successor.
    pub fn with_successors(mut self, script: &[u32]) -> Self {
        self.successors.extend(script.windows(2).map(|pair| (pair[0], pair[1])));
        self
    }

    fn validate(&self, spans: &[Span<'_>], cache: &dyn KvCache<B>) -> Result<(), LmError> {
        if spans.is_empty() {
            return Err(LmError::EmptySpan(None));
        }
        let mut seen = HashSet::new();
        for span in spans {
            if span.tokens.is_empty() {
                return Err(LmError::EmptySpan(Some(span.sequence)));
            }
            if !seen.insert(span.sequence) {
                return Err(LmError::RepeatedSequence(span.sequence));
            }
            let beyond = span.tokens.iter().find(|&&token| token as usize >= self.vocab_size);
            if let Some(&token) = beyond {
                return Err(LmError::TokenOutOfRange { token, vocab_size: self.vocab_size });
            }
            let end = cache.sequence(span.sequence)?.1 + span.tokens.len();
            if end > self.max_positions {
                return Err(LmError::TooLong { position: end - 1, limit: self.max_positions });
            }
        }
        Ok(())
    }

    fn logits_after(&self, history: &[Cell]) -> Vec<f32> {
        let window = &history[history.len().saturating_sub(self.window)..];
        let hash = window.iter().fold(mix(self.seed), |hash, cell| {
            cell.iter().fold(hash, |hash, digit| mix(hash ^ u64::from(digit.to_bits())))
        });
        let mut row: Vec<f32> = (0..self.vocab_size as u64)
            .map(|token| (mix(hash ^ mix(token)) >> 40) as f32 / (1 << 23) as f32 - 1.0)
            .map(|unit| unit * SPREAD)
            .collect();
        let last = history.last().and_then(token_of);
        if let Some(&next) = last.and_then(|token| self.successors.get(&token)) {
            row[next as usize] += 20.0;
        }
        row
    }
}

/// What the cache holds for one position: three digits from the keys, three from the values.
type Cell = [f32; 6];

fn cell_of(token: u32) -> Cell {
    let digit = |power: u32| (token / DIGIT.pow(power) % DIGIT + 1) as f32;
    [digit(0), digit(1), digit(2), digit(0), digit(1), digit(2)]
}

/// The token a cell stands for; `None` where the cell was not written by this model.
fn token_of(cell: &Cell) -> Option<u32> {
    let token =
        (0..3).map(|power| (cell[power as usize] as u32).wrapping_sub(1) * DIGIT.pow(power));
    let token = token.fold(0u32, u32::wrapping_add);
    (cell_of(token) == *cell).then_some(token)
}

/// A layer's pools on the host, while one batch is written and read.
///
/// Of eight-bit pools these are the codes: the model stores its digits as they are, and leaves the
/// scales alone.
struct HostPools {
    keys: Vec<f32>,
    values: Vec<f32>,
    kv_heads: usize,
    head_dim: usize,
    layout: Layout,
}

/// Where a channel of a position lies within its block and head.
#[derive(Clone, Copy)]
enum Layout {
    Float,
    Int8,
}

impl HostPools {
    fn download<B: Backend>(layer: &KvLayer<B>) -> Self {
        let host = |data: TensorData| data.iter::<f32>().collect::<Vec<f32>>();
        match layer {
            KvLayer::Float(FloatKvLayer { keys, values }) => {
                let [_, kv_heads, head_dim, _] = keys.dims();
                let (keys, values) = (host(keys.to_data()), host(values.to_data()));
                Self { keys, values, kv_heads, head_dim, layout: Layout::Float }
            }
            KvLayer::Int8(Int8KvLayer { key_codes, value_codes, .. }) => {
                let [_, kv_heads, steps, ..] = key_codes.dims();
                let (keys, values) = (host(key_codes.to_data()), host(value_codes.to_data()));
                Self { keys, values, kv_heads, head_dim: 4 * steps, layout: Layout::Int8 }
            }
            KvLayer::Selected(layer) => Self::download(&layer.pool),
        }
    }

    fn upload<B: Backend>(self, layer: &mut KvLayer<B>, device: &B::Device) {
        match layer {
            KvLayer::Float(layer) => {
                let upload = |data: Vec<f32>, like: &Tensor<B, 4>| {
                    Tensor::from_data(TensorData::new(data, like.shape()), (device, like.dtype()))
                };
                layer.keys = upload(self.keys, &layer.keys);
                layer.values = upload(self.values, &layer.values);
            }
            KvLayer::Int8(layer) => {
                let upload = |data: Vec<f32>, like: &Tensor<B, 5, Int>| {
                    let codes: Vec<i8> = data.into_iter().map(|x| x as i8).collect();
                    Tensor::from_data(TensorData::new(codes, like.shape()), (device, like.dtype()))
                };
                layer.key_codes = upload(self.keys, &layer.key_codes);
                layer.value_codes = upload(self.values, &layer.value_codes);
            }
            KvLayer::Selected(layer) => self.upload(&mut layer.pool, device),
        }
    }

    /// Indices of the six numbers of position `position`, in head 0.
    fn indices(&self, table: &[u32], position: usize) -> [usize; 6] {
        let block = table[position / KV_BLOCK] as usize;
        let offset = position % KV_BLOCK;
        let head = block * self.kv_heads * self.head_dim * KV_BLOCK;
        let key = |channel: usize| match self.layout {
            Layout::Float => head + channel * KV_BLOCK + offset,
            Layout::Int8 => head + (channel / 4 * KV_BLOCK + offset) * 4 + channel % 4,
        };
        let value = |channel: usize| match self.layout {
            Layout::Float => head + offset * self.head_dim + channel,
            Layout::Int8 => head + (offset / 4 * self.head_dim + channel) * 4 + offset % 4,
        };
        [key(0), key(1), key(2), value(0), value(1), value(2)]
    }

    fn write(&mut self, table: &[u32], position: usize, token: u32) {
        let indices = self.indices(table, position);
        let cell = cell_of(token);
        for (slot, (&index, &digit)) in indices.iter().zip(&cell).enumerate() {
            let pool = if slot < 3 { &mut self.keys } else { &mut self.values };
            pool[index] = digit;
        }
    }

    fn read(&self, table: &[u32], position: usize) -> Cell {
        let [k0, k1, k2, v0, v1, v2] = self.indices(table, position);
        let (k, v) = (&self.keys, &self.values);
        [k[k0], k[k1], k[k2], v[v0], v[v1], v[v2]]
    }
}

impl<B: Backend> CausalLm<B> for TableLm<B> {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// # Panics
    /// Where the cache has fewer than [`TableLm::HEAD_DIM`] channels.
    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
    ) -> Result<Tensor<B, 2>, LmError> {
        self.validate(spans, cache)?;
        for span in spans {
            cache.reserve(span.sequence, span.tokens.len())?;
        }
        let tables = spans.iter().map(|span| {
            let (table, held) = cache.sequence(span.sequence)?;
            Ok((table.to_vec(), held))
        });
        let tables = tables.collect::<Result<Vec<(Vec<u32>, usize)>, KvCacheError>>()?;

        let layer = cache.layer_mut(0);
        let mut pools = HostPools::download(layer);
        assert!(pools.head_dim >= Self::HEAD_DIM, "TableLm needs three channels per head");
        let mut rows = Vec::new();
        for (span, (table, held)) in spans.iter().zip(&tables) {
            for (index, &token) in span.tokens.iter().enumerate() {
                pools.write(table, held + index, token);
            }
            let end = held + span.tokens.len();
            let history: Vec<Cell> = (0..end).map(|p| pools.read(table, p)).collect();
            let wanted = span.logits.count(span.tokens.len());
            debug_assert!(wanted > 0 || span.logits == LogitRows::None);
            for row_end in end + 1 - wanted..end + 1 {
                rows.extend(self.logits_after(&history[..row_end]));
            }
        }
        pools.upload(layer, &self.device);
        for span in spans {
            cache.advance(span.sequence, span.tokens.len())?;
        }
        let shape = [rows.len() / self.vocab_size.max(1), self.vocab_size];
        Ok(Tensor::from_data(TensorData::new(rows, shape), &self.device))
    }
}
