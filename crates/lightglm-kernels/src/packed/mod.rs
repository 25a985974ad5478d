//! Quantized matrices: codes of 8 or 4 bits in the layout the kernels read.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of columns that share a scale.

mod channels;
mod error;
mod format;
mod layout;
mod packed_matrix;
mod quantized_matrix;
pub mod reference;
mod scales;

pub(crate) use channels::ChannelLayout;
pub use error::PackError;
pub use format::{
    ActivationBits, ActivationFormat, CodeOrder, PackedFormat, ScaleDtype, WeightBits,
};
pub use packed_matrix::{PANEL_ROWS, PackedMatrix, PackedSizes};
pub use quantized_matrix::QuantizedMatrix;
pub(crate) use scales::{ScaleLayout, ScalePlace};
