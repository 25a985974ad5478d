//! The portable implementation, and the reference that the others must match bit for bit. Called, not
//! inlined, for the reason that [`Scalar`] gives.

use super::super::scalar::Scalar;
use super::super::simd::LANES;
use super::dot::Dot;

/// Sixteen sums in an array.
#[derive(Clone, Copy)]
pub(super) struct Plain([i32; LANES]);

impl Dot for Plain {
    type Float = Scalar;
    type Codes = [[u8; 4]; LANES];
    type Quad = [i8; 4];
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> [[u8; 4]; LANES] {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { from.cast::<[[u8; 4]; LANES]>().read_unaligned() }
    }

    #[inline(never)]
    unsafe fn load_nibbles(from: *const u8) -> [[[u8; 4]; LANES]; 2] {
        // SAFETY: the caller vouches for 64 bytes.
        let both = unsafe { Self::load_bytes(from) };
        [both.map(|row| row.map(|code| code & 15)), both.map(|row| row.map(|code| code >> 4))]
    }

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> [i8; 4] {
        // SAFETY: the caller vouches for four codes.
        unsafe { from.cast::<[i8; 4]>().read_unaligned() }
    }

    #[inline(never)]
    unsafe fn dot(self, weights: [[u8; 4]; LANES], x: [i8; 4]) -> Self {
        Self(std::array::from_fn(|lane| {
            let products = weights[lane].iter().zip(x).map(|(&w, x)| i32::from(w) * i32::from(x));
            products.fold(self.0[lane], i32::wrapping_add)
        }))
    }

    #[inline(never)]
    unsafe fn interleave_bytes(channels: [*const u8; 4]) -> [[[u8; 4]; LANES]; 4] {
        // SAFETY: the caller vouches for 64 bytes of each channel.
        let channels =
            unsafe { channels.map(|from| from.cast::<[u8; 4 * LANES]>().read_unaligned()) };
        std::array::from_fn(|r| {
            std::array::from_fn(|row| {
                channels.map(|channel| channel[row / 4 * 16 + 4 * r + row % 4])
            })
        })
    }

    #[inline(never)]
    unsafe fn interleave_nibbles(channels: [*const u8; 4]) -> [[[u8; 4]; LANES]; 8] {
        // SAFETY: the caller vouches for 64 bytes of each channel.
        let both = unsafe { Self::interleave_bytes(channels) };
        std::array::from_fn(|i| match i {
            0..4 => both[i].map(|row| row.map(|code| code & 15)),
            _ => both[i - 4].map(|row| row.map(|code| code >> 4)),
        })
    }

    #[inline(never)]
    unsafe fn store_bytes(codes: [[u8; 4]; LANES], to: *mut u8) {
        // SAFETY: the caller vouches for 64 writable bytes.
        unsafe { to.cast::<[[u8; 4]; LANES]>().write_unaligned(codes) }
    }

    #[inline(never)]
    unsafe fn store_nibbles(low: [[u8; 4]; LANES], high: [[u8; 4]; LANES], to: *mut u8) {
        let both = std::array::from_fn(|row| {
            std::array::from_fn(|column| low[row][column] | high[row][column] << 4)
        });
        // SAFETY: the caller vouches for 64 writable bytes.
        unsafe { Self::store_bytes(both, to) }
    }

    #[inline(never)]
    unsafe fn to_float(self) -> Scalar {
        Scalar(self.0.map(|sum| sum as f32))
    }
}
