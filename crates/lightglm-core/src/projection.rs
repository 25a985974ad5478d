//! `Linear`, `FeedForward` and `Embedding`: the places where a decoder can be recomposed.
//!
//! Shapes: `T` rows (tokens of all sequences, packed), `K` in_features, `N` out_features,
//! `D` hidden_size, `V` vocab_size.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};

/// A projection `y = x W^T + b`.
///
/// Dense, quantized, fake-quantized, LoRA and sparse-input projections all are one of these, so the
/// decoder is written once. An implementation must give each row of `y` from that row of `x` alone:
/// the same bits whatever other rows stand in the batch.
pub trait Linear<B: Backend>: Module<B> + ModuleDisplay {
    /// `x: [T, K] -> [T, N]`.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2>;

    /// `[out_features, in_features]`.
    fn shape(&self) -> [usize; 2];

    /// Bytes of weight and bias that one call must read, whatever `T` is.
    fn bytes_read(&self) -> usize;
}

/// The position-wise part of a decoder block, norms and residual excluded.
pub trait FeedForward<B: Backend>: Module<B> + ModuleDisplay {
    /// `x: [T, D] -> [T, D]`.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2>;

    /// Bytes of weights that one call must read, whatever `T` is.
    fn bytes_read(&self) -> usize;
}

/// The table of token embeddings, which is the head as well where the two are tied.
pub trait Embedding<B: Backend>: Module<B> + ModuleDisplay {
    /// The rows of `ids`: `[T, D]` in f32.
    ///
    /// # Panics
    /// Where an id is not below `V`.
    fn forward(&self, ids: &[u32]) -> Tensor<B, 2>;

    /// The table as a projection, for tied heads: `x: [T, D] -> [T, V]`.
    fn project(&self, x: Tensor<B, 2>) -> Tensor<B, 2>;

    /// `[V, D]`.
    fn shape(&self) -> [usize; 2];

    /// Bytes of the whole table.
    fn bytes(&self) -> usize;
}
