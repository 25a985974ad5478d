//! Layers whose weight is packed or dense.

mod quantized_embedding;
mod quantized_linear;
mod weight;

pub use quantized_embedding::QuantizedEmbedding;
pub use quantized_linear::QuantizedLinear;
pub use weight::MatrixWeight;
