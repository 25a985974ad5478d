//! GGUF's block types as a [`QuantizedMatrix`].
//!
//! Shapes: `N` out_features, `K` in_features.

mod blocks_of_256;
mod blocks_of_32;

use half::f16;
use lightglm_core::{StoredTensor, WeightSource};
use lightglm_kernels::{QuantizedMatrix, WeightBits, page_out};
use rayon::prelude::*;

use super::FormatError;

/// The block types that [`import_gguf`] reads, as GGUF spells them.
pub const GGUF_BLOCK_TYPES: [&str; 10] =
    ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"];

/// What a block becomes: its codes, and per group a scale and, where the type has them, a minimum.
struct Block<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [f32],
    minimums: &'a mut [f32],
}

/// How blocks of one type map to groups.
struct Layout {
    /// Elements of a block.
    elements: usize,
    /// Bytes of a block.
    bytes: usize,
    bits: WeightBits,
    /// Columns of a group.
    group_size: usize,
    has_minimums: bool,
    unpack: fn(&[u8], Block<'_>),
}

/// Source: ggml's `ggml-common.h` (`block_*`) and `ggml-quants.c` (`dequantize_row_*`).
fn layout(dtype: &str) -> Option<Layout> {
    use WeightBits::{Eight, Four};
    let (elements, bytes, bits, group_size, has_minimums, unpack): (
        _,
        _,
        _,
        _,
        _,
        fn(&_, Block<'_>),
    ) = match dtype {
        "Q4_0" => (32, 18, Four, 32, false, blocks_of_32::q4_0),
        "Q4_1" => (32, 20, Four, 32, true, blocks_of_32::q4_1),
        "Q5_0" => (32, 22, Eight, 32, false, blocks_of_32::q5_0),
        "Q5_1" => (32, 24, Eight, 32, true, blocks_of_32::q5_1),
        "Q8_0" => (32, 34, Eight, 32, false, blocks_of_32::q8_0),
        "Q2_K" => (256, 84, Four, 16, true, blocks_of_256::q2_k),
        "Q3_K" => (256, 110, Four, 16, false, blocks_of_256::q3_k),
        "Q4_K" => (256, 144, Four, 32, true, blocks_of_256::q4_k),
        "Q5_K" => (256, 176, Eight, 32, true, blocks_of_256::q5_k),
        "Q6_K" => (256, 210, Eight, 16, false, blocks_of_256::q6_k),
        _ => return None,
    };
    Some(Layout { elements, bytes, bits, group_size, has_minimums, unpack })
}

/// The tensor `name` of `source`, whose stored type is one of [`GGUF_BLOCK_TYPES`].
///
/// Every type maps exactly: the matrix dequantizes to the bits that ggml's own dequantization gives.
/// Codes are the file's; a group's scale and minimum are single f32 products of the block's f16 and
/// the group's small integer, as ggml computes them.
///
/// | type | codes | group | minimum |
/// |---|---|---|---|
/// | Q4_0 | 4 bits | 32 | |
/// | Q4_1 | 4 bits | 32 | yes |
/// | Q5_0 | 8 bits (5 used) | 32 | |
/// | Q5_1 | 8 bits (5 used) | 32 | yes |
/// | Q8_0 | 8 bits | 32 | |
/// | Q2_K | 4 bits (2 used) | 16 | yes |
/// | Q3_K | 4 bits (3 used) | 16 | |
/// | Q4_K | 4 bits | 32 | yes |
/// | Q5_K | 8 bits (5 used) | 32 | yes |
/// | Q6_K | 8 bits (6 used) | 16 | |
///
/// Scales of the types up to Q8_0 are f16 values; those of the K types need f32.
///
/// # Errors
/// [`FormatError::Dtype`] for another type, [`FormatError::Shape`] for a tensor that is no matrix,
/// [`FormatError::Blocks`] where a row ends inside a block, [`FormatError::Length`];
/// [`FormatError::Matrix`] where a scale is not finite; [`FormatError::Weights`].
pub fn import_gguf(source: &dyn WeightSource, name: &str) -> Result<QuantizedMatrix, FormatError> {
    let StoredTensor { dtype, shape, parts } = source.stored(name)?;
    let Some(layout) = layout(&dtype) else {
        let expected = "a block type of GGUF (Q4_0 to Q8_0, Q2_K to Q6_K)";
        return Err(FormatError::Dtype { name: name.into(), dtype, expected });
    };
    let [n, k] = shape[..] else {
        let expected = "[out_features, in_features]".into();
        return Err(FormatError::Shape { name: name.into(), actual: shape, expected });
    };
    if !k.is_multiple_of(layout.elements) {
        let block = layout.elements;
        return Err(FormatError::Blocks { name: name.into(), dtype, in_features: k, block });
    }
    let row_bytes = k / layout.elements * layout.bytes;
    let actual = parts.iter().map(|part| part.len()).sum::<usize>();
    let expected = n.saturating_mul(row_bytes);
    if actual != expected || parts.iter().any(|part| part.len() % row_bytes.max(1) != 0) {
        return Err(FormatError::Length { name: name.into(), expected, actual });
    }
    let groups = k / layout.group_size;
    let mut matrix = QuantizedMatrix {
        shape: [n, k],
        bits: layout.bits,
        group_size: layout.group_size,
        codes: vec![0; n * k],
        scales: vec![0.0; n * groups],
        minimums: layout.has_minimums.then(|| vec![0.0; n * groups]),
    };
    if n * k > 0 {
        let mut row = 0;
        for part in &parts {
            let rows = part.len() / row_bytes;
            unpack_rows(&layout, part, &mut matrix, row, rows);
            page_out(part);
            row += rows;
        }
    }
    let check = matrix.check();
    check.map_err(|source| FormatError::Matrix { name: name.into(), source })?;
    Ok(matrix)
}

/// Unpacks `rows` rows of blocks into the rows of `matrix` from `first` on, many at a time.
fn unpack_rows(
    layout: &Layout,
    bytes: &[u8],
    matrix: &mut QuantizedMatrix,
    first: usize,
    rows: usize,
) {
    let [_, k] = matrix.shape;
    let (groups, per_block) = (k / layout.group_size, layout.elements / layout.group_size);
    let codes = matrix.codes[first * k..(first + rows) * k].par_chunks_mut(k);
    let scales = matrix.scales[first * groups..][..rows * groups].par_chunks_mut(groups);
    // Types without minimums get none, row by row.
    let mut nothing = Vec::new();
    let minimums = match &mut matrix.minimums {
        Some(minimums) => &mut minimums[first * groups..][..rows * groups],
        None => {
            nothing.resize(rows * groups, 0.0);
            &mut nothing[..]
        }
    };
    let minimums = minimums.par_chunks_mut(groups);
    let rows = bytes.par_chunks(k / layout.elements * layout.bytes);
    rows.zip(codes).zip(scales).zip(minimums).for_each(|(((bytes, codes), scales), minimums)| {
        let blocks = bytes.chunks_exact(layout.bytes);
        let codes = codes.chunks_exact_mut(layout.elements);
        let scales = scales.chunks_exact_mut(per_block);
        let minimums = minimums.chunks_exact_mut(per_block);
        for (((bytes, codes), scales), minimums) in blocks.zip(codes).zip(scales).zip(minimums) {
            (layout.unpack)(bytes, Block { codes, scales, minimums });
        }
    });
}

/// The binary16 at `bytes[at..]`.
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
