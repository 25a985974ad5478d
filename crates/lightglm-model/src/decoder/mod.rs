//! The decoder, written once.

mod batch;
mod block;
mod channel_linear;
mod decoder_weights;
mod dense_embedding;
mod dense_linear;
mod dense_parts;
mod forward_hook;
mod glm;
mod layer_norm;
mod load;
mod map;
mod norm;
mod place;
mod rotary;
mod self_attention;
mod swiglu;
mod taps;
mod train;

pub use block::Block;
pub use channel_linear::ChannelLinear;
pub use decoder_weights::DecoderWeights;
pub use dense_embedding::DenseEmbedding;
pub use dense_linear::DenseLinear;
pub use dense_parts::{DenseParts, LoadPrecision};
pub use forward_hook::{ForwardHook, Site};
pub use glm::{DenseGlm, Glm};
pub use layer_norm::LayerNorm;
pub use norm::RmsNorm;
pub(crate) use place::own;
pub use place::vector;
pub use rotary::RotaryEmbedding;
pub use self_attention::SelfAttention;
pub use swiglu::SwiGlu;
