//! Dequantization to f32, with the very roundings of ggml's reference code.
//!
//! Source: ggml's `ggml-quants.c` (`dequantize_row_*`) and `ggml-common.h` (`block_*`).

mod blocks_of_256;
mod blocks_of_32;

use half::{bf16, f16};
use rayon::prelude::*;

use super::ggml_type::GgmlType;

/// Blocks that one task dequantizes.
const BLOCKS_PER_TASK: usize = 1024;

/// Dequantizes `bytes` to `out`, in parallel.
///
/// # Panics
/// Where `bytes` is not the whole blocks that `out` asks for.
pub fn dequantize(ggml_type: GgmlType, bytes: &[u8], out: &mut [f32]) {
    let (elements, size) = (ggml_type.block_elements(), ggml_type.block_bytes());
    assert!(
        out.len().is_multiple_of(elements) && bytes.len().is_multiple_of(size),
        "{} bytes and {} elements are not whole {} blocks",
        bytes.len(),
        out.len(),
        ggml_type.name()
    );
    assert_eq!(bytes.len() / size, out.len() / elements, "blocks in and out");
    out.par_chunks_mut(BLOCKS_PER_TASK * elements)
        .zip(bytes.par_chunks(BLOCKS_PER_TASK * size))
        .for_each(|(out, bytes)| dequantize_task(ggml_type, bytes, out));
}

fn dequantize_task(ggml_type: GgmlType, bytes: &[u8], out: &mut [f32]) {
    match ggml_type {
        GgmlType::F32 => each::<4, 1>(bytes, out, |b, out| out[0] = f32::from_le_bytes(*b)),
        GgmlType::F16 => each::<2, 1>(bytes, out, |b, out| out[0] = f16_at(b, 0)),
        GgmlType::Bf16 => {
            each::<2, 1>(bytes, out, |b, out| out[0] = bf16::from_le_bytes(*b).to_f32());
        }
        GgmlType::Q4_0 => each(bytes, out, blocks_of_32::q4_0),
        GgmlType::Q4_1 => each(bytes, out, blocks_of_32::q4_1),
        GgmlType::Q5_0 => each(bytes, out, blocks_of_32::q5_0),
        GgmlType::Q5_1 => each(bytes, out, blocks_of_32::q5_1),
        GgmlType::Q8_0 => each(bytes, out, blocks_of_32::q8_0),
        GgmlType::Q2K => each(bytes, out, blocks_of_256::q2_k),
        GgmlType::Q3K => each(bytes, out, blocks_of_256::q3_k),
        GgmlType::Q4K => each(bytes, out, blocks_of_256::q4_k),
        GgmlType::Q5K => each(bytes, out, blocks_of_256::q5_k),
        GgmlType::Q6K => each(bytes, out, blocks_of_256::q6_k),
        GgmlType::Iq4Nl => each(bytes, out, blocks_of_32::iq4_nl),
        GgmlType::Iq4Xs => each(bytes, out, blocks_of_256::iq4_xs),
    }
}

/// Applies `block` to each block of `BYTES` bytes and `N` elements.
fn each<const BYTES: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; N]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (outs, _) = out.as_chunks_mut();
    for (bytes, out) in blocks.iter().zip(outs) {
        block(bytes, out);
    }
}

/// The binary16 at `bytes[at..]`.
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
