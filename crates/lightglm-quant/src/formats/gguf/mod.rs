//! GGUF's block types as a [`QuantizedMatrix`].
//!
//! Shapes: `N` out_features, `K` in_features.

mod block_type;
mod blocks_of_256;
mod blocks_of_32;
mod stored_blocks;

use half::f16;
use lightglm_core::WeightSource;
use lightglm_kernels::{QuantizedMatrix, page_out};
use rayon::prelude::*;

use self::block_type::BlockType;
pub use self::block_type::GGUF_BLOCK_TYPES;
pub(crate) use self::stored_blocks::StoredBlocks;
use super::FormatError;

/// What a block becomes: its codes, and per group a scale and, where the type has them, a minimum.
struct Block<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [f32],
    minimums: &'a mut [f32],
}

/// The tensor `name` of `source`, whose stored type is one of [`GGUF_BLOCK_TYPES`].
///
/// Every type maps exactly: the matrix dequantizes to the bits that ggml's own dequantization gives.
/// Codes are the file's; a group's scale and minimum are single f32 products of the block's f16 and
/// the group's small integer, as ggml computes them. The IQ types' codes choose from a table of 8-bit
/// values, which stand here in their place.
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
/// | IQ4_NL | 8 bits (16 values) | 32 | |
/// | IQ4_XS | 8 bits (16 values) | 32 | |
///
/// Scales of the types up to Q8_0 and of IQ4_NL are f16 values; those of the others are nested
/// ([`ScaleDtype::Nested`](lightglm_kernels::ScaleDtype::Nested)), and need f32 where they stand alone.
///
/// # Errors
/// [`FormatError::Dtype`] for another type, [`FormatError::Shape`] for a tensor that is no matrix,
/// [`FormatError::Blocks`] where a row ends inside a block, [`FormatError::Length`];
/// [`FormatError::Matrix`] where a scale is not finite; [`FormatError::Weights`].
pub fn import_gguf(source: &dyn WeightSource, name: &str) -> Result<QuantizedMatrix, FormatError> {
    let stored = source.stored(name)?;
    let blocks = match StoredBlocks::new(std::slice::from_ref(&stored)) {
        Ok(Some(blocks)) => blocks,
        Ok(None) => {
            let expected = "a block type of GGUF (Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS)";
            return Err(FormatError::Dtype { name: name.into(), dtype: stored.dtype, expected });
        }
        Err(error) => return Err(error.of_tensor(name)),
    };
    let matrix = blocks.rows(0..blocks.shape()[0]);
    stored.parts.iter().for_each(|part| page_out(part));
    let check = matrix.check();
    check.map_err(|source| FormatError::Matrix { name: name.into(), source })?;
    Ok(matrix)
}

/// Unpacks rows of blocks of one type: `bytes` is a whole number of rows of `k` elements.
fn unpack_rows(kind: &BlockType, bytes: &[u8], k: usize) -> QuantizedMatrix {
    let row_bytes = k / kind.elements * kind.bytes;
    let rows = bytes.len() / row_bytes.max(1);
    let (groups, per_block) = (k / kind.group_size, kind.elements / kind.group_size);
    let mut matrix = QuantizedMatrix {
        shape: [rows, k],
        bits: kind.bits,
        group_size: kind.group_size,
        codes: vec![0; rows * k],
        scales: vec![0.0; rows * groups],
        minimums: kind.has_minimums.then(|| vec![0.0; rows * groups]),
    };
    if rows * k == 0 {
        return matrix;
    }
    // Types without minimums get none, block by block.
    let mut nothing = Vec::new();
    let minimums = matrix.minimums.as_mut().unwrap_or_else(|| {
        nothing.resize(rows * groups, 0.0);
        &mut nothing
    });
    let all = bytes
        .par_chunks(row_bytes)
        .zip(matrix.codes.par_chunks_mut(k))
        .zip(matrix.scales.par_chunks_mut(groups))
        .zip(minimums.par_chunks_mut(groups));
    all.for_each(|(((bytes, codes), scales), minimums)| {
        let blocks = bytes.chunks_exact(kind.bytes);
        let codes = codes.chunks_exact_mut(kind.elements);
        let scales = scales.chunks_exact_mut(per_block);
        let minimums = minimums.chunks_exact_mut(per_block);
        for (((bytes, codes), scales), minimums) in blocks.zip(codes).zip(scales).zip(minimums) {
            (kind.unpack)(bytes, Block { codes, scales, minimums });
        }
    });
    matrix
}

/// The binary16 at `bytes[at..]`.
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
