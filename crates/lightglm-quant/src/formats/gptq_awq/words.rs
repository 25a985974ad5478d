//! Codes out of 32-bit words.
//!
//! Shapes: `N` out_features, `K` in_features, `b` bits of a code, `p = 32 / b` codes of a word.

use lightglm_kernels::WeightBits;
use rayon::prelude::*;

use super::WordLayout;

/// The output, of eight neighbours, whose code stands at a place of one of AWQ's words.
///
/// Source: AutoAWQ, `modules/linear/gemm.py`, `order_map`.
const AWQ_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Rows that one thread writes at a time, so that what it reads of a word row are whole cache lines.
const ROWS: usize = 64;

/// Codes of a word: 8 or 4.
pub(super) const fn per_word(bits: WeightBits) -> usize {
    32 / bits.count()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().expect("four bytes"))
}

fn code(word: u32, place: usize, bits: WeightBits) -> u8 {
    (word >> (place * bits.count())) as u8 & bits.largest()
}

/// `words: [K / p, N]`, of neighbouring inputs, as codes `[N, K]`.
pub(super) fn along_inputs(bytes: &[u8], [n, k]: [usize; 2], bits: WeightBits) -> Vec<u8> {
    let (p, mut codes) = (per_word(bits), vec![0; n * k]);
    codes.par_chunks_mut((ROWS * k).max(1)).enumerate().for_each(|(block, codes)| {
        for words in 0..k / p {
            for (row, codes) in codes.chunks_exact_mut(k).enumerate() {
                let word = word(bytes, words * n + block * ROWS + row);
                for (place, out) in codes[words * p..][..p].iter_mut().enumerate() {
                    *out = code(word, place, bits);
                }
            }
        }
    });
    codes
}

/// `words: [rows, N / p]`, of neighbouring outputs, as values `[N, rows]`: the codes of AWQ, and the zero points
/// of all layouts.
pub(super) fn along_outputs(
    bytes: &[u8],
    [n, rows]: [usize; 2],
    bits: WeightBits,
    layout: WordLayout,
) -> Vec<u8> {
    let (p, mut values) = (per_word(bits), vec![0; n * rows]);
    let place_of = |output: usize| match layout {
        WordLayout::AwqGemm => AWQ_ORDER.iter().position(|o| *o == output).unwrap_or(output),
        WordLayout::Gptq | WordLayout::GptqV2 => output,
    };
    // The 1 that was taken off each, from the word as a whole: a zero point of 0 borrowed from its neighbour.
    let more = match layout {
        WordLayout::Gptq => (0..p).fold(0, |ones, place| ones | 1 << (bits.count() * place)),
        WordLayout::GptqV2 | WordLayout::AwqGemm => 0u32,
    };
    values.par_chunks_mut((ROWS * rows).max(1)).enumerate().for_each(|(block, values)| {
        for row in 0..rows {
            for (words, values) in values.chunks_exact_mut(p * rows).enumerate() {
                let word = word(bytes, row * (n / p) + block * (ROWS / p) + words);
                let word = word.wrapping_add(more);
                for (output, values) in values.chunks_exact_mut(rows).enumerate() {
                    values[row] = code(word, place_of(output), bits);
                }
            }
        }
    });
    values
}
