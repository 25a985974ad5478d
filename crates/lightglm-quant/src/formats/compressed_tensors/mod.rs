//! The layouts of compressed-tensors that vLLM and transformers read: `int-quantized` and
//! `pack-quantized`.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row, `b` bits of a code.
//!
//! ```text
//! int-quantized   weight            I8  [N, K]               codes, zero point 0
//!                 weight_scale          [N, 1] or [N, G]
//!                 weight_zero_point I8  as weight_scale      only where not symmetric
//! pack-quantized  weight_packed     I32 [N, ceil(K b / 32)]  codes + 2^(b-1), lowest bits first
//!                 weight_scale          [N, 1] or [N, G]
//!                 weight_shape      I64 [2]                  N, K
//!                 weight_zero_point I32 [ceil(N b / 32), G]  likewise, packed along the rows
//! w = (code - zero_point) * weight_scale
//! ```
//! Scales are F32, F16 or BF16. Where they are F32, what the package makes of a symmetric weight is
//! what [`QuantizedMatrix::dequantize`] makes of it, bit for bit; with 16-bit scales the package
//! rounds each weight to their precision, while nothing is rounded here.
//!
//! A zero point becomes the minimum `-zero * scale`. That is exact for 16-bit scales. For F32 scales
//! the product is rounded, so that a weight can differ from the package's by half a unit in the last
//! place of the group's minimum; [`snap_minimums`] makes them agree where scales are f16 values.
//!
//! Source: the package `compressed-tensors` 0.20.0, `compressors/naive_quantized/base.py`,
//! `compressors/pack_quantized/` and `quantization/quant_config.py`.
//!
//! [`QuantizedMatrix::dequantize`]: lightglm_kernels::QuantizedMatrix::dequantize

mod checkpoint;
mod config;
mod export;
mod layout;
mod packing;
mod targets;
mod zero_points;

pub use checkpoint::CompressedTensorsCheckpoint;
pub use config::{CompressedTensorsConfig, ConfigGroup, WeightArgs, WeightStrategy};
pub use export::{CompressedTensorsScheme, export_compressed_tensors};
pub use layout::CompressedFormat;
pub use targets::Target;
pub use zero_points::snap_minimums;
