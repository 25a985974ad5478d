//! `MasterWeight`: which weight of a trained part belongs into a checkpoint.

use burn::tensor::{Tensor, backend::Backend};

/// A projection or an embedding table that can say which weight a checkpoint should hold of it.
///
/// That is the weight which training moves, before anything is done to it at each use: fake
/// quantization and half precision are looked through, adapters are added. Of a fake-quantized
/// projection [`EffectiveWeight`](crate::EffectiveWeight) says what the forward pass computes with,
/// and this trait what a quantizer is given afterwards.
///
/// Source: the word is Micikevicius et al.'s 2018, "Mixed Precision Training", section 3.1.
pub trait MasterWeight<B: Backend> {
    /// `[out_features, in_features]`, or `[vocab_size, hidden_size]`.
    fn master_weight(&self) -> Tensor<B, 2>;
}
