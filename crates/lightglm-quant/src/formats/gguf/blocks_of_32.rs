//! Blocks of 32 elements, one group each. Byte `i` of the 4-bit types holds element `i` in its lower
//! half and element `i + 16` in its upper half; the 5-bit types keep the fifth bits apart.

use super::{Block, f16_at};

/// `d | 16 bytes`, `x = d (q - 8)`.
pub(super) fn q4_0(bytes: &[u8], out: Block<'_>) {
    out.scales[0] = f16_at(bytes, 0);
    nibbles(&bytes[2..18], out.codes);
}

/// `d | m | 16 bytes`, `x = d q + m`.
pub(super) fn q4_1(bytes: &[u8], out: Block<'_>) {
    (out.scales[0], out.minimums[0]) = (f16_at(bytes, 0), f16_at(bytes, 2));
    nibbles(&bytes[4..20], out.codes);
}

/// `d | fifth bits [4] | 16 bytes`, `x = d (q - 16)`.
pub(super) fn q5_0(bytes: &[u8], out: Block<'_>) {
    out.scales[0] = f16_at(bytes, 0);
    nibbles(&bytes[6..22], out.codes);
    fifth_bits(&bytes[2..6], out.codes);
    // Zero is 16 there and 128 here.
    out.codes.iter_mut().for_each(|code| *code += 112);
}

/// `d | m | fifth bits [4] | 16 bytes`, `x = d q + m`.
pub(super) fn q5_1(bytes: &[u8], out: Block<'_>) {
    (out.scales[0], out.minimums[0]) = (f16_at(bytes, 0), f16_at(bytes, 2));
    nibbles(&bytes[8..24], out.codes);
    fifth_bits(&bytes[4..8], out.codes);
}

/// `d | 32 signed bytes`, `x = d q`.
pub(super) fn q8_0(bytes: &[u8], out: Block<'_>) {
    out.scales[0] = f16_at(bytes, 0);
    // Adding 128 to a signed byte is flipping its sign bit.
    out.codes.iter_mut().zip(&bytes[2..34]).for_each(|(code, byte)| *code = byte ^ 0x80);
}

/// The 16 values that the codes of the IQ4 types stand for, which k-means found for weights.
///
/// Source: ggml's `ggml-common.h` (`kvalues_iq4nl`).
pub(super) const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `d | 16 bytes`, `x = d values[q]`.
pub(super) fn iq4_nl(bytes: &[u8], out: Block<'_>) {
    out.scales[0] = f16_at(bytes, 0);
    nibbles(&bytes[2..18], out.codes);
    look_up(out.codes);
}

/// Codes become the values that they choose; zero is 128.
pub(super) fn look_up(codes: &mut [u8]) {
    // Adding 128 to a signed byte is flipping its sign bit.
    codes.iter_mut().for_each(|code| *code = IQ4_VALUES[usize::from(*code)] as u8 ^ 0x80);
}

pub(super) fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Bit `i` of the little-endian u32 is the fifth bit of element `i`.
fn fifth_bits(bits: &[u8], codes: &mut [u8]) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= (bits[i / 8] >> (i % 8) & 1) << 4;
    }
}
