//! K-quants: superblocks of 256 elements, whose groups have small integer scales of their own.

use super::blocks_of_32::look_up;
use super::f16_at;

/// `scales and minima [16] | 2-bit [64] | d | dmin`, `x = d s q - dmin m`, 16 groups of 16.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[group] & 15);
        let min = dmin * f32::from(scales[group] >> 4);
        // Half of 128 elements, one of four shifts, one of two runs of 16 bytes.
        let (half, shift, run) = (group / 8, group % 8 / 2 * 2, group % 2);
        let bytes = &quants[half * 32 + run * 16..][..16];
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = scale * f32::from(byte >> shift & 3) - min;
        }
    }
}

/// `high bits [32] | 2-bit [64] | 6-bit scales [12] | d`, `x = d (s - 32) q`, 16 groups of 16.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = f16_at(block, 108);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        // The lower four bits lie in bytes 0..8, twice eight; the upper two in 8..12, four times four.
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let upper = scales[8 + group % 4] >> (group / 4 * 2) & 3;
        let scale = d * (f32::from(low | upper << 4) - 32.0);
        let (half, shift, run) = (group / 8, group % 8 / 2 * 2, group % 2);
        let bytes = &quants[half * 32 + run * 16..][..16];
        let masks = &high[run * 16..][..16];
        for ((out, byte), mask) in out.iter_mut().zip(bytes).zip(masks) {
            // A missing high bit stands for -4.
            let offset = if mask >> (group / 2) & 1 == 0 { 4.0 } else { 0.0 };
            *out = scale * (f32::from(byte >> shift & 3) - offset);
        }
    }
}

/// `d | dmin | 6-bit scales and minima [12] | 4-bit [128]`, `x = d s q - dmin m`, 8 groups of 32.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let quants = &block[16..];
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(&block[..16], group);
        let shift = group % 2 * 4;
        for (out, byte) in out.iter_mut().zip(&quants[group / 2 * 32..]) {
            *out = scale * f32::from(byte >> shift & 15) - min;
        }
    }
}

/// As [`q4_k`], with the fifth bits `[32]` before the quants: bit `g` of byte `i` for element `i`
/// of group `g`.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (high, quants) = (&block[16..48], &block[48..]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(&block[..16], group);
        let shift = group % 2 * 4;
        for ((out, byte), high) in out.iter_mut().zip(&quants[group / 2 * 32..]).zip(high) {
            *out = scale * f32::from(byte >> shift & 15 | (high >> group & 1) << 4) - min;
        }
    }
}

/// `lower four bits [128] | upper two [64] | 8-bit scales [16] | d`, `x = d s (q - 32)`, 16 groups
/// of 16.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, upper, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = f16_at(block, 208);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[group] as i8);
        // Each half of 128 elements is four quarters of two groups.
        let (half, quarter, run) = (group / 8, group % 8 / 2, group % 2);
        let low = &low[half * 64 + quarter % 2 * 32 + run * 16..][..16];
        let upper = &upper[half * 32 + run * 16..][..16];
        let (low_shift, upper_shift) = (quarter / 2 * 4, quarter * 2);
        for ((out, low), upper) in out.iter_mut().zip(low).zip(upper) {
            let q = low >> low_shift & 15 | (upper >> upper_shift & 3) << 4;
            *out = scale * (f32::from(q) - 32.0);
        }
    }
}

/// `d | upper two bits of scales [2] | lower four [4] | 4-bit [128]`, `x = d (s - 32) values[q]`, 8 groups
/// of 32.
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let (d, upper) = (f16_at(block, 0), u16::from_le_bytes([block[2], block[3]]));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let high = (upper >> (2 * group) & 3) as u8;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        look_up(scale, &block[8 + group * 16..][..16], out);
    }
}

/// Scale and minimum of a group of 32, from `d | dmin | 12 bytes`.
///
/// Groups 0..4 have the lower six bits of bytes `g` and `g + 4`; groups 4..8 have the halves of byte
/// `g + 4`, and above them the upper two bits of bytes `g - 4` and `g`.
fn scale_and_min(header: &[u8], group: usize) -> (f32, f32) {
    let (d, dmin, packed) = (f16_at(header, 0), f16_at(header, 2), &header[4..16]);
    let (scale, min) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let halves = packed[group + 4];
        (halves & 15 | packed[group - 4] >> 6 << 4, halves >> 4 | packed[group] >> 6 << 4)
    };
    (d * f32::from(scale), dmin * f32::from(min))
}
