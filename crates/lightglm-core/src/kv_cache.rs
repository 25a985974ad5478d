//! `KvCache`: keys and values as runs of fixed-size blocks.
//!
//! Shapes: `P` blocks in a layer's pool, `K` kv heads, `d` head_dim, [`KV_BLOCK`] positions a block.

use burn::tensor::{DType, Int, Tensor, backend::Backend};

use crate::kv_dtype::KvDtype;
use crate::selected_kv::SelectedKvLayer;

/// Positions in one KV block.
///
/// Sixteen: one vector register of f32 scores on the widest machine, and the block size serving
/// engines page by.
pub const KV_BLOCK: usize = 16;

/// Names a sequence inside one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub usize);

/// One layer's pool of blocks, in the layout attention walks.
///
/// Keys are transposed inside a block, so that sixteen scores are computed side by side without a
/// horizontal sum.
#[derive(Clone, Debug)]
pub enum KvLayer<B: Backend> {
    /// Keys and values as numbers.
    Float(FloatKvLayer<B>),
    /// Keys and values as eight-bit codes and scales.
    Int8(Int8KvLayer<B>),
    /// One of the others, of which decode steps read the most promising pages only.
    Selected(Box<SelectedKvLayer<B>>),
}

/// A pool of numbers.
#[derive(Clone, Debug)]
pub struct FloatKvLayer<B: Backend> {
    /// `[P, K, d, KV_BLOCK]`, f32, f16 or bf16.
    pub keys: Tensor<B, 4>,
    /// `[P, K, KV_BLOCK, d]`, same dtype.
    pub values: Tensor<B, 4>,
}

/// A pool of codes, quantized symmetrically per head and token.
///
/// ```text
/// scale = max |x| / 127 (1 where that is 0), code = round half to even (x / scale)
/// ```
///
/// Four codes that meet in one sum lie side by side, which is how the integer dot products of CPUs
/// read them. `d4` is head_dim rounded up to a multiple of four; the codes beyond head_dim are 0.
#[derive(Clone, Debug)]
pub struct Int8KvLayer<B: Backend> {
    /// `[P, K, d4 / 4, KV_BLOCK, 4]`, i8, `-127..=127`: channel `c` of a position lies at
    /// `[.., c / 4, position, c % 4]`.
    pub key_codes: Tensor<B, 5, Int>,
    /// `[P, K, KV_BLOCK]`, f32.
    pub key_scales: Tensor<B, 3>,
    /// `[P, K, KV_BLOCK / 4, d4, 4]`, i8, `-127..=127`: channel `c` of a position lies at
    /// `[.., position / 4, c, position % 4]`.
    pub value_codes: Tensor<B, 5, Int>,
    /// `[P, K, KV_BLOCK]`, f32.
    pub value_scales: Tensor<B, 3>,
    /// Whether keys are stored (and queries meet them) under the orthonormal Walsh-Hadamard
    /// transform, which spreads outlier channels over all of a run.
    ///
    /// It goes over runs of the largest power of two that divides head_dim, so every head_dim has
    /// one (an odd head_dim that of length 1, which changes nothing). Scores stay what they were,
    /// up to rounding.
    pub rotate_keys: bool,
}

impl<B: Backend> FloatKvLayer<B> {
    /// A pool of zeros in `dtype`, which is f32, f16 or bf16: `shape` is `[P, K, d]`.
    pub fn zeros([p, k, d]: [usize; 3], dtype: DType, device: &B::Device) -> Self {
        Self {
            keys: Tensor::zeros([p, k, d, KV_BLOCK], (device, dtype)),
            values: Tensor::zeros([p, k, KV_BLOCK, d], (device, dtype)),
        }
    }
}

impl<B: Backend> Int8KvLayer<B> {
    /// A pool of zeros: `shape` is `[P, K, d]`.
    pub fn zeros([p, k, d]: [usize; 3], rotate_keys: bool, device: &B::Device) -> Self {
        let d4 = d.next_multiple_of(4);
        let codes = (device, DType::I8);
        let scales = (device, DType::F32);
        Self {
            key_codes: Tensor::zeros([p, k, d4 / 4, KV_BLOCK, 4], codes),
            key_scales: Tensor::zeros([p, k, KV_BLOCK], scales),
            value_codes: Tensor::zeros([p, k, KV_BLOCK / 4, d4, 4], codes),
            value_scales: Tensor::zeros([p, k, KV_BLOCK], scales),
            rotate_keys,
        }
    }
}

impl<B: Backend> KvLayer<B> {
    /// A pool of zeros in `dtype`: `shape` is `[P, K, d]`.
    pub fn zeros(shape: [usize; 3], dtype: KvDtype, device: &B::Device) -> Self {
        match dtype {
            KvDtype::F32 | KvDtype::F16 | KvDtype::Bf16 => {
                Self::Float(FloatKvLayer::zeros(shape, dtype.into(), device))
            }
            KvDtype::Int8 => Self::Int8(Int8KvLayer::zeros(shape, false, device)),
            KvDtype::Int8Rotated => Self::Int8(Int8KvLayer::zeros(shape, true, device)),
        }
    }

    /// Blocks in the pool, `P`.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Float(layer) => layer.keys.dims()[0],
            Self::Int8(layer) => layer.key_codes.dims()[0],
            Self::Selected(layer) => layer.pool.blocks(),
        }
    }
}

/// Where attention finds and leaves keys and values.
///
/// A contiguous cache is one whose block tables count upwards; a paged one hands blocks out in any
/// order. Attention cannot tell them apart. The order of calls in one step is `reserve` for each
/// sequence, `layer_mut` for each layer, `advance` for each sequence.
pub trait KvCache<B: Backend> {
    /// The block table of `sequence` and the number of positions it holds.
    ///
    /// Position `p` lies in block `table[p / KV_BLOCK]` at offset `p % KV_BLOCK`.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`].
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError>;

    /// Makes the block table long enough for `additional` more positions.
    ///
    /// # Errors
    /// [`KvCacheError::Full`] where no block is left; the table is then unchanged.
    fn reserve(&mut self, sequence: SequenceId, additional: usize) -> Result<(), KvCacheError>;

    /// The pool of layer `layer`, to append to and read from.
    ///
    /// # Panics
    /// Where `layer` is not a layer of the model that the cache was made for.
    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<B>;

    /// Counts `added` positions, which every layer has written by now, as held.
    ///
    /// # Errors
    /// [`KvCacheError::UnknownSequence`]; [`KvCacheError::Full`] for more than was reserved.
    fn advance(&mut self, sequence: SequenceId, added: usize) -> Result<(), KvCacheError>;
}

/// Why a KV cache refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvCacheError {
    /// The cache has no such sequence.
    #[error("the KV cache has no sequence {0:?}")]
    UnknownSequence(SequenceId),
    /// No block is left.
    #[error("the KV cache is full: {requested} positions asked for, room for {available}")]
    Full {
        /// Positions the sequence would have held.
        requested: usize,
        /// Positions it can hold.
        available: usize,
    },
    /// Other sequences may hold these positions.
    #[error("{published} positions are published and stay, {requested} were to be kept")]
    Published {
        /// Positions that the sequence would have kept.
        requested: usize,
        /// Positions that stay.
        published: usize,
    },
}
