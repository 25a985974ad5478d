//! A table of token embeddings in its stored precision.
//!
//! Shapes: `T` rows, `V` vocab_size, `D` hidden_size.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{Embedding, MasterWeight};
use lightglm_kernels::LmBackend;

use super::dense_linear::bytes;

/// The table `[V, D]` in f32, f16 or bf16. On the CPU it may be a view of the mapped checkpoint.
#[derive(Module, Debug)]
pub struct DenseEmbedding<B: Backend> {
    /// `[V, D]`.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: LmBackend> MasterWeight<B> for DenseEmbedding<B> {
    fn master_weight(&self) -> Tensor<B, 2> {
        self.weight.val()
    }
}

impl<B: LmBackend> Embedding<B> for DenseEmbedding<B> {
    fn forward(&self, ids: &[u32]) -> Tensor<B, 2> {
        B::embed(self.weight.val(), ids)
    }

    fn project(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::project(x, self.weight.val(), None)
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    fn bytes(&self) -> usize {
        bytes(&self.weight.val())
    }
}
