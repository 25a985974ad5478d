//! `FakeQuantEmbedding`. Shapes: `T` rows, `V` vocab_size, `D` hidden_size.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{Embedding, MasterWeight};
use lightglm_kernels::LmBackend;

use super::{FakeQuantizer, ScaleSource};
use crate::{QuantError, QuantizedEmbedding, Scheme};

/// A table of token embeddings, and the head where the two are tied, as it will be once it is packed.
///
/// It holds the table itself, not what held it before: looking rows up quantizes those rows alone,
/// which takes the table and not an `Embedding`.
#[derive(Module, Debug)]
pub struct FakeQuantEmbedding<B: Backend> {
    /// `[V, D]`.
    pub weight: Param<Tensor<B, 2>>,
    /// Its fake quantization.
    pub quantizer: FakeQuantizer<B>,
}

impl<B: LmBackend> FakeQuantEmbedding<B> {
    /// For the table `weight`, which errors call `name`.
    ///
    /// # Errors
    /// As [`FakeQuantizer::new`].
    pub fn new(
        name: &str,
        weight: Param<Tensor<B, 2>>,
        scheme: Scheme,
        scales: ScaleSource,
    ) -> Result<Self, QuantError> {
        let quantizer = FakeQuantizer::new(name, &weight.val(), scheme, scales)?;
        Ok(Self { weight, quantizer })
    }

    /// The packed table with the codes and scales that this one computes with.
    ///
    /// # Errors
    /// As [`FakeQuantizer::matrix`].
    pub fn convert(&self, name: &str) -> Result<QuantizedEmbedding<B>, QuantError> {
        Ok(QuantizedEmbedding { weight: self.quantizer.packed(name, self.weight.val())? })
    }
}

impl<B: LmBackend> Embedding<B> for FakeQuantEmbedding<B> {
    fn forward(&self, ids: &[u32]) -> Tensor<B, 2> {
        self.quantizer.rows(self.weight.val(), ids)
    }

    fn project(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = self.quantizer.activations(x);
        B::project(x, self.quantizer.weight(self.weight.val()), None)
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    fn bytes(&self) -> usize {
        self.weight.shape().num_elements() * self.weight.dtype().size()
    }
}

/// The table that is trained, unrounded.
impl<B: LmBackend> MasterWeight<B> for FakeQuantEmbedding<B> {
    fn master_weight(&self) -> Tensor<B, 2> {
        self.weight.val()
    }
}
