//! Quantization of language models after training: schemes, methods, packed projections, files.
//!
//! The seams of core that this crate implements are `Linear` and `Embedding`; it reads checkpoints
//! through `WeightSource` and knows no decoder.

mod error;
pub mod methods;
mod round_to_nearest;
mod weight_scheme;

pub use error::QuantError;
pub use round_to_nearest::{round_to_nearest, scale_of};
pub use weight_scheme::{Granularity, WeightScheme};
