//! `Dot`: sixteen 32-bit sums of four-byte dot products, whatever registers they lie in.

use super::super::simd::{LANES, Simd};

/// Added to a float of at most `2^22` it leaves the nearest integer (ties to even) in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;
/// Bits of [`ROUND`].
const ROUND_BITS: u32 = 0x4B40_0000;

/// [`LANES`] i32 accumulators, one for each of sixteen rows of weights.
///
/// All integer arithmetic wraps and is exact otherwise, so implementations agree bit for bit and the
/// order of steps does not matter. The safety contract is that of [`Simd`].
///
/// Products are added up in runs: `begin`, at most [`Dot::LONGEST_RUN`] times `dot`, `end`. What is
/// between has a form of its own, in which an instruction set may be faster than in 32 bits.
pub(super) trait Dot: Copy {
    /// The f32 lanes of the same instruction set.
    type Float: Simd;
    /// Four codes of each of sixteen rows: 64 bytes.
    type Codes: Copy;
    /// The codes of four activations, for all rows.
    type Quad: Copy;
    /// Whether the accumulators of two halves of a panel and twelve tokens fit the registers.
    const WIDE: bool;
    /// Bytes of the codes of four activations in memory: 4 of i8, or 8 of i16, in the order of
    /// [`super::activations::Code::place_of_column`].
    const QUAD: usize = 4;
    /// Quads of a run at most; even.
    const LONGEST_RUN: usize = usize::MAX;

    /// All lanes `value`.
    unsafe fn splat(value: i32) -> Self;
    /// Loads 64 codes of 8 bits.
    unsafe fn load_bytes(from: *const u8) -> Self::Codes;
    /// Loads 128 codes of 4 bits: the low nibbles, then the high ones.
    unsafe fn load_nibbles(from: *const u8) -> [Self::Codes; 2];
    /// Loads four activations.
    unsafe fn quad(from: *const i8) -> Self::Quad;
    /// What a run begins with that `end` adds to `self`.
    #[inline(always)]
    unsafe fn begin(self) -> Self {
        self
    }
    /// Adds the dot products of four columns to a run: codes of weights, as they were loaded, with those
    /// of activations. Bytes count less [`super::DotIsa::byte_bias`].
    unsafe fn dot(self, weights: Self::Codes, activations: Self::Quad) -> Self;
    /// The sums with those of a run that they began.
    #[inline(always)]
    unsafe fn end(self, run: Self) -> Self {
        run
    }
    /// Four codes of each of 64 rows, sixteen at a time, from 64 bytes of four channels in the order
    /// that [`crate::CodeOrder::Channels`] has.
    unsafe fn interleave_bytes(channels: [*const u8; 4]) -> [Self::Codes; 4];
    /// As [`Dot::interleave_bytes`] for 128 rows with 4 bits.
    unsafe fn interleave_nibbles(channels: [*const u8; 4]) -> [Self::Codes; 8];
    /// What [`Dot::load_bytes`] loads.
    unsafe fn store_bytes(codes: Self::Codes, to: *mut u8);
    /// What [`Dot::load_nibbles`] loads.
    unsafe fn store_nibbles(low: Self::Codes, high: Self::Codes, to: *mut u8);
    /// The lanes rounded to f32.
    unsafe fn to_float(self) -> Self::Float;

    /// Rounds lanes within -127..=127 to integers (ties to even) and stores them.
    #[inline(always)]
    unsafe fn store_codes(values: Self::Float, to: *mut i8) {
        let mut lanes = [0.0f32; LANES];
        // SAFETY: the array has 16 lanes, and the caller vouches for 16 writable codes.
        unsafe {
            values.add(Self::Float::splat(ROUND)).store(lanes.as_mut_ptr());
            to.cast::<[i8; LANES]>().write_unaligned(lanes.map(|lane| lane.to_bits() as i8));
        }
    }

    /// Rounds lanes within -32512..=32512 to integers (ties to even) and stores them as i16, each quad in
    /// the order that [`Dot::quad`] reads where [`Dot::QUAD`] is 8.
    #[inline(always)]
    unsafe fn store_words(values: Self::Float, to: *mut i16) {
        let mut lanes = [0.0f32; LANES];
        // SAFETY: as in `store_codes`.
        unsafe {
            values.add(Self::Float::splat(ROUND)).store(lanes.as_mut_ptr());
            let codes = std::array::from_fn::<i16, LANES, _>(|i| {
                lanes[i / 4 * 4 + [0, 2, 1, 3][i % 4]].to_bits() as i16
            });
            to.cast::<[i16; LANES]>().write_unaligned(codes);
        }
    }

    /// Rounds lanes within -32512..=32512 to integers (ties to even) and stores each as
    /// `high * 256 + low` with a signed `low`.
    #[inline(always)]
    unsafe fn store_wide_codes(values: Self::Float, high: *mut i8, low: *mut i8) {
        let mut lanes = [0.0f32; LANES];
        let upper = |lane: f32| ((lane.to_bits().wrapping_sub(ROUND_BITS - 128) as i32) >> 8) as i8;
        // SAFETY: as in `store_codes`.
        unsafe {
            values.add(Self::Float::splat(ROUND)).store(lanes.as_mut_ptr());
            high.cast::<[i8; LANES]>().write_unaligned(lanes.map(upper));
            low.cast::<[i8; LANES]>().write_unaligned(lanes.map(|lane| lane.to_bits() as i8));
        }
    }
}
