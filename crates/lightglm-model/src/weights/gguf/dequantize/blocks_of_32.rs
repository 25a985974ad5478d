//! Blocks of 32 elements. Byte `i` of the 4-bit types holds element `i` in its lower half and
//! element `i + 16` in its upper half; the 5-bit types keep the fifth bits apart, in a u32.

use super::f16_at;

/// `d | 16 bytes`, `x = d (q - 8)`.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (i, byte) in block[2..].iter().enumerate() {
        out[i] = (f32::from(byte & 15) - 8.0) * d;
        out[i + 16] = (f32::from(byte >> 4) - 8.0) * d;
    }
}

/// `d | m | 16 bytes`, `x = d q + m`.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (i, byte) in block[4..].iter().enumerate() {
        out[i] = f32::from(byte & 15) * d + m;
        out[i + 16] = f32::from(byte >> 4) * d + m;
    }
}

/// `d | fifth bits | 16 bytes`, `x = d (q - 16)`.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (i, byte) in block[6..].iter().enumerate() {
        let (low, upper) = five_bits(*byte, high, i);
        out[i] = (low - 16.0) * d;
        out[i + 16] = (upper - 16.0) * d;
    }
}

/// `d | m | fifth bits | 16 bytes`, `x = d q + m`.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (i, byte) in block[8..].iter().enumerate() {
        let (low, upper) = five_bits(*byte, high, i);
        out[i] = low * d + m;
        out[i + 16] = upper * d + m;
    }
}

/// `d | 32 bytes`, `x = d q`.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (out, byte) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*byte as i8) * d;
    }
}

/// The 16 values that the codes of the IQ4 types stand for.
///
/// Source: ggml's `ggml-common.h` (`kvalues_iq4nl`).
const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `d | 16 bytes`, `x = d values[q]`.
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    look_up(f16_at(block, 0), &block[2..], out);
}

/// 16 bytes that choose 32 values, times `scale`.
pub(super) fn look_up(scale: f32, bytes: &[u8], out: &mut [f32]) {
    let value = |code: u8| scale * f32::from(IQ4_VALUES[usize::from(code)]);
    for (i, byte) in bytes.iter().enumerate() {
        out[i] = value(byte & 15);
        out[i + 16] = value(byte >> 4);
    }
}

/// Elements `i` and `i + 16`.
fn five_bits(byte: u8, high: u32, i: usize) -> (f32, f32) {
    let fifth = |bit: usize| ((high >> bit & 1) as u8) << 4;
    (f32::from(byte & 15 | fifth(i)), f32::from(byte >> 4 | fifth(i + 16)))
}
