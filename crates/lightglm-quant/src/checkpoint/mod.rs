//! Quantized checkpoints on disk: safetensors whose metadata say what is packed how.
//!
//! ```text
//! model.layers.0.mlp.down_proj.codes     U8       [panels, steps, 128]
//! model.layers.0.mlp.down_proj.scales    F16/F32  [panels, groups, 32]
//! model.layers.0.mlp.down_proj.minimums  F16/F32  [panels, groups, 32], with a zero point only
//! (of nested scales: multipliers behind a panel's steps, and [panels, units, 32] of F16)
//! lm_head.weight, *norm.weight, *.bias   as in any checkpoint, where they are dense
//! __metadata__["lightglm.quantization"]  JSON: PackedIndex
//! ```

mod error;
mod index;
mod quantized_checkpoint;

pub use error::PackedFileError;
pub use index::{PACKED_FORMAT, PACKED_VERSION, PackedIndex, PackedMatrixEntry};
pub use quantized_checkpoint::QuantizedCheckpoint;

use lightglm_kernels::{PANEL_ROWS, PackedSizes};

/// What the names of a packed matrix's tensors end in.
pub(crate) const CODES: &str = ".codes";
/// See [`CODES`].
pub(crate) const SCALES: &str = ".scales";
/// See [`CODES`].
pub(crate) const MINIMUMS: &str = ".minimums";

/// Shapes of the tensors of codes and of scales: elements are those of the packed matrix. Multipliers of
/// nested scales count as further steps of a panel's codes.
pub(crate) fn part_shapes(sizes: &PackedSizes) -> [[usize; 3]; 2] {
    let steps = sizes.panel_bytes / (PANEL_ROWS * 4);
    [[sizes.panels, steps, PANEL_ROWS * 4], [sizes.panels, sizes.scales_of_row, PANEL_ROWS]]
}
