//! Codes in 32-bit words, as `pack_to_int32` and `unpack_from_int32` of the package lay them out.
//!
//! Codes are unsigned (the package adds `2^(b-1)` before it packs), the lowest bits of a word first,
//! words little-endian. So a word of 4-bit codes is four bytes of two codes, the first in the lower
//! half; a word of 8-bit codes is four bytes.

use lightglm_kernels::WeightBits;

/// Codes in a word: 8 or 4.
pub(super) const fn per_word(bits: WeightBits) -> usize {
    32 / bits.count()
}

/// Appends `codes` to `out` as whole words.
pub(super) fn pack(mut codes: impl Iterator<Item = u8>, bits: WeightBits, out: &mut Vec<u8>) {
    let begin = out.len();
    match bits {
        WeightBits::Eight => out.extend(codes),
        WeightBits::Four => {
            while let Some(low) = codes.next() {
                out.push(low | codes.next().unwrap_or(0) << 4);
            }
        }
    }
    let packed = out.len() - begin;
    out.resize(begin + packed.next_multiple_of(4), 0);
}

/// Code `at` of the words `bytes`.
pub(super) fn code(bytes: &[u8], at: usize, bits: WeightBits) -> u8 {
    match bits {
        WeightBits::Eight => bytes[at],
        WeightBits::Four => bytes[at / 2] >> (at % 2 * 4) & 15,
    }
}
