//! `PartSource`: where a decoder's projections and embedding table come from.

use std::path::Path;

use burn::tensor::backend::Backend;

use crate::projection::{Embedding, Linear};
use crate::weights::{WeightError, WeightSource};

/// A matrix that a decoder asks a [`PartSource`] for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPart {
    /// The name without `.weight`: `model.layers.3.mlp.down_proj`, `lm_head`, `model.embed_tokens`.
    pub name: String,
    /// `[out_features, in_features]`, or `[vocab_size, hidden_size]`.
    pub shape: [usize; 2],
    /// Whether the configuration gives the projection a bias (`{name}.bias`).
    pub bias: bool,
}

impl LoadPart {
    /// A matrix without a bias.
    pub fn new(name: impl Into<String>, shape: [usize; 2]) -> Self {
        Self { name: name.into(), shape, bias: false }
    }

    /// The same matrix, with a bias where `bias` says so.
    #[must_use]
    pub fn with_bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }
}

/// Makes the parts that a decoder is composed of: dense, packed, or packed while they are read.
///
/// The decoder asks for one part at a time, so no source has to hold more than one dense matrix.
/// What is no matrix (a norm's weight) needs no maker: the decoder reads it from
/// [`weights`](Self::weights).
pub trait PartSource<B: Backend> {
    /// A projection.
    type Linear: Linear<B>;
    /// The embedding table, the head as well where the two are tied.
    type Embedding: Embedding<B>;
    /// Why a part could not be made.
    type Error: std::error::Error + From<WeightError> + Send + Sync + 'static;

    /// The projection `part`, of exactly `part.shape`, with a bias where `part.bias` says so.
    ///
    /// # Errors
    /// Where the source has no such matrix, where it or its bias has another shape, and where it
    /// cannot be made what this source makes; each names the matrix.
    fn linear(&self, part: &LoadPart, device: &B::Device) -> Result<Self::Linear, Self::Error>;

    /// The embedding table `part`, of exactly `part.shape`.
    ///
    /// # Errors
    /// As [`Self::linear`].
    fn embedding(
        &self,
        part: &LoadPart,
        device: &B::Device,
    ) -> Result<Self::Embedding, Self::Error>;

    /// The tensors that are no matrices, and the file or folder that errors name.
    fn weights(&self) -> (&dyn WeightSource, &Path);
}
