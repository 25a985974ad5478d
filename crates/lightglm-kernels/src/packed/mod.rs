//! Quantized matrices: codes of 8 or 4 bits in the layout the kernels read.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of columns that share a scale.
//!
//! A weight on its way from a checkpoint to a product is one of these, in this order:
//!
//! | type | where | what it holds |
//! |---|---|---|
//! | [`QuantizedMatrix`] | here | codes `[N, K]` one a byte, scales and minimums `[N, G]` in f32, row-major: what a method returns and a reference reads |
//! | `PackedBytes` | `lightglm-quant`, quantizer | the same matrix as bytes in the kernels' layout, on the host: what a file stores |
//! | `HostMatrix` | `lightglm-quant`, quantizer | `PackedBytes`, or a tensor that the policy leaves dense |
//! | [`PackedMatrix`] | here | the packed layout as burn tensors on a device, possibly views of a mapped file |
//! | `MatrixWeight` | `lightglm-quant`, layers | [`PackedMatrix`], or a dense tensor: the weight of a `QuantizedLinear` |
//! | `PackedParts` | `flex.rs` | a [`PackedMatrix`]'s tensors on burn-flex, kept alive while a kernel reads them |
//! | [`cpu::PackedWeights`](crate::cpu::PackedWeights) | `cpu/packed` | the same as slices, without burn: what the integer kernels take |

mod channels;
mod error;
mod format;
mod layout;
mod nested;
mod packed_matrix;
mod quantized_matrix;
pub mod reference;
mod scales;

pub(crate) use channels::ChannelLayout;
pub use error::PackingError;
pub use format::{
    ActivationBits, ActivationFormat, CodeOrder, PackedFormat, ScaleDtype, WeightBits,
};
pub use packed_matrix::{PANEL_ROWS, PackedMatrix, PackedSizes};
pub use quantized_matrix::QuantizedMatrix;
pub(crate) use scales::{ScaleLayout, ScalePlace};
