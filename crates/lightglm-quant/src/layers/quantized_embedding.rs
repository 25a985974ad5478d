//! `QuantizedEmbedding`. Shapes: `T` rows, `V` vocab_size, `D` hidden_size.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{Embedding, MasterWeight};
use lightglm_kernels::LmBackend;

use super::MatrixWeight;

/// A table of token embeddings, and the head where the two are tied: packed, or dense where a policy
/// leaves it so.
#[derive(Module, Debug)]
pub struct QuantizedEmbedding<B: Backend> {
    /// `[V, D]`.
    pub weight: MatrixWeight<B>,
}

impl<B: LmBackend> Embedding<B> for QuantizedEmbedding<B> {
    fn forward(&self, ids: &[u32]) -> Tensor<B, 2> {
        match &self.weight {
            MatrixWeight::Dense(weight) => B::embed(Param::val(weight), ids),
            MatrixWeight::Packed(packed) => B::embed_packed(packed, ids),
        }
    }

    fn project(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.weight.project(x, None)
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    fn bytes(&self) -> usize {
        self.weight.bytes()
    }
}

impl<B: LmBackend> MasterWeight<B> for QuantizedEmbedding<B> {
    fn master_weight(&self) -> Tensor<B, 2> {
        self.weight.values()
    }
}
