//! K-quants: superblocks of 256 elements, whose groups have small integer scales of their own.

use super::blocks_of_32::{look_up, nibbles};
use super::{Block, f16_at};

/// `scales and minima [16] | 2-bit [64] | d | dmin`, `x = d s q - dmin m`, 16 groups of 16.
pub(super) fn q2_k(bytes: &[u8], out: Block<'_>) {
    let (scales, quants) = (&bytes[..16], &bytes[16..80]);
    let (d, dmin) = (f16_at(bytes, 80), f16_at(bytes, 82));
    for (group, codes) in out.codes.chunks_exact_mut(16).enumerate() {
        out.scales[group] = d * f32::from(scales[group] & 15);
        out.minimums[group] = -(dmin * f32::from(scales[group] >> 4));
        // Half of 128 elements, one of four shifts, one of two runs of 16 bytes.
        let (half, shift, run) = (group / 8, group % 8 / 2 * 2, group % 2);
        let quants = &quants[half * 32 + run * 16..][..16];
        codes.iter_mut().zip(quants).for_each(|(code, byte)| *code = byte >> shift & 3);
    }
}

/// `high bits [32] | 2-bit [64] | 6-bit scales [12] | d`, `x = d (s - 32) q`, 16 groups of 16.
pub(super) fn q3_k(bytes: &[u8], out: Block<'_>) {
    let (high, quants, scales) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
    let d = f16_at(bytes, 108);
    for (group, codes) in out.codes.chunks_exact_mut(16).enumerate() {
        // The lower four bits lie in bytes 0..8, twice eight; the upper two in 8..12, four times four.
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let upper = scales[8 + group % 4] >> (group / 4 * 2) & 3;
        out.scales[group] = d * (f32::from(low | upper << 4) - 32.0);
        let (half, shift, run) = (group / 8, group % 8 / 2 * 2, group % 2);
        let (quants, high) = (&quants[half * 32 + run * 16..][..16], &high[run * 16..][..16]);
        for ((code, byte), high) in codes.iter_mut().zip(quants).zip(high) {
            // A missing high bit stands for -4; zero is 8 here.
            *code = 4 + (byte >> shift & 3) + (high >> (group / 2) & 1) * 4;
        }
    }
}

/// `d | dmin | 6-bit scales and minima [12] | 4-bit [128]`, `x = d s q - dmin m`, 8 groups of 32.
pub(super) fn q4_k(bytes: &[u8], out: Block<'_>) {
    let quants = &bytes[16..144];
    for (group, codes) in out.codes.chunks_exact_mut(32).enumerate() {
        (out.scales[group], out.minimums[group]) = scale_and_minimum(bytes, group);
        let (shift, quants) = (group % 2 * 4, &quants[group / 2 * 32..]);
        codes.iter_mut().zip(quants).for_each(|(code, byte)| *code = byte >> shift & 15);
    }
}

/// As [`q4_k`], with the fifth bits `[32]` before the quants: bit `g` of byte `i` for element `i`
/// of group `g`.
pub(super) fn q5_k(bytes: &[u8], out: Block<'_>) {
    let (high, quants) = (&bytes[16..48], &bytes[48..176]);
    for (group, codes) in out.codes.chunks_exact_mut(32).enumerate() {
        (out.scales[group], out.minimums[group]) = scale_and_minimum(bytes, group);
        let (shift, quants) = (group % 2 * 4, &quants[group / 2 * 32..]);
        for ((code, byte), high) in codes.iter_mut().zip(quants).zip(high) {
            *code = byte >> shift & 15 | (high >> group & 1) << 4;
        }
    }
}

/// `lower four bits [128] | upper two [64] | 8-bit scales [16] | d`, `x = d s (q - 32)`, 16 groups
/// of 16.
pub(super) fn q6_k(bytes: &[u8], out: Block<'_>) {
    let (low, upper, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let d = f16_at(bytes, 208);
    for (group, codes) in out.codes.chunks_exact_mut(16).enumerate() {
        out.scales[group] = d * f32::from(scales[group] as i8);
        // Each half of 128 elements is four quarters of two groups.
        let (half, quarter, run) = (group / 8, group % 8 / 2, group % 2);
        let low = &low[half * 64 + quarter % 2 * 32 + run * 16..][..16];
        let upper = &upper[half * 32 + run * 16..][..16];
        let (low_shift, upper_shift) = (quarter / 2 * 4, quarter * 2);
        for ((code, low), upper) in codes.iter_mut().zip(low).zip(upper) {
            // Zero is 32 there and 128 here.
            *code = 96 + (low >> low_shift & 15 | (upper >> upper_shift & 3) << 4);
        }
    }
}

/// `d | upper two bits of scales [2] | lower four [4] | 4-bit [128]`, `x = d (s - 32) values[q]`, 8 groups
/// of 32.
pub(super) fn iq4_xs(bytes: &[u8], out: Block<'_>) {
    let (d, upper) = (f16_at(bytes, 0), u16::from_le_bytes([bytes[2], bytes[3]]));
    let (lower, quants) = (&bytes[4..8], &bytes[8..136]);
    for (group, codes) in out.codes.chunks_exact_mut(32).enumerate() {
        let low = lower[group / 2] >> (group % 2 * 4) & 15;
        let high = (upper >> (2 * group) & 3) as u8;
        out.scales[group] = d * (f32::from(low | high << 4) - 32.0);
        nibbles(&quants[group * 16..][..16], codes);
        look_up(codes);
    }
}

/// Scale and minimum of a group of 32, from `d | dmin | 12 bytes`.
///
/// Groups 0..4 have the lower six bits of bytes `g` and `g + 4`; groups 4..8 have the halves of byte
/// `g + 4`, and above them the upper two bits of bytes `g - 4` and `g`.
fn scale_and_minimum(block: &[u8], group: usize) -> (f32, f32) {
    let (d, dmin, packed) = (f16_at(block, 0), f16_at(block, 2), &block[4..16]);
    let (scale, min) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let halves = packed[group + 4];
        (halves & 15 | packed[group - 4] >> 6 << 4, halves >> 4 | packed[group] >> 6 << 4)
    };
    (d * f32::from(scale), -(dmin * f32::from(min)))
}
