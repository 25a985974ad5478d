//! Quantization of language models, after training and in it: schemes, methods, packed projections,
//! files, quantization-aware training.
//!
//! **Should I use this crate?** Yes, to hold a model in 8 or 4 bits a weight:
//! [`CheckpointQuantizer`] makes one from any checkpoint, in memory or as a file that
//! [`QuantizedCheckpoint`] maps without a copy.
//! The decoder itself is `lightglm-model`'s: `Glm::from_parts` takes its projections from here.
//!
//! ```
//! use lightglm_quant::{Footprint, Policy, Scheme};
//! // How much smaller does a projection of GLM-4-9B get?
//! let policy: Policy = "lm_head=int8,*=int4".parse()?;
//! let name = "model.layers.0.mlp.down_proj";
//! let size = Footprint::of(name, [4096, 13_696], policy.scheme(name), 16)?;
//! assert_eq!(size.bits_per_weight(), 4.25);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The seams of core that this crate implements are `Linear`, `Embedding` and `PartSource`; it reads checkpoints
//! through `WeightSource` and knows no decoder.

mod checkpoint;
mod error;
pub mod formats;
mod layers;
pub mod methods;
mod policy;
pub mod qat;
mod quantizer;
mod round_to_nearest;
mod scheme;

pub use checkpoint::{
    PACKED_FORMAT, PACKED_VERSION, PackedFileError, PackedIndex, PackedMatrixEntry,
    QuantizedCheckpoint,
};
pub use error::QuantError;
pub use layers::{MatrixWeight, QuantizedEmbedding, QuantizedLinear};
pub use policy::{Footprint, Policy, PolicyError, footprint};
pub use quantizer::{CheckpointQuantizer, DenseMatrix, HostMatrix, PackedBytes, to_f32};
pub use round_to_nearest::{round_to_nearest, scale_of};
pub use scheme::{Granularity, QuantizedScheme, Scheme, SchemeError, WeightScheme};
