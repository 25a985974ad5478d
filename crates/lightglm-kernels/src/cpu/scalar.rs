//! The portable implementation, and the reference that the others must match bit for bit.
//!
//! What is more than a few instructions a lane is called, not inlined: no instruction set has to reach it,
//! and sixteen lanes of a tile, unrolled, were half of the code of this crate and of the time that it took
//! to compile.

use half::{bf16, f16};

use super::simd::{LANES, Simd};

/// Sixteen lanes in an array.
#[derive(Clone, Copy)]
pub(crate) struct Scalar(pub(super) [f32; LANES]);

impl Scalar {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i])))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Simd for Scalar {
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for 16 readable lanes; an array of f32 has their layout.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 16 writable lanes.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(never)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: the caller vouches for 16 readable lanes.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self(bits.map(|b| f16::from_bits(b).to_f32()))
    }

    #[inline(never)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the caller vouches for 16 readable lanes.
        Self(unsafe { from.cast::<[i8; LANES]>().read_unaligned() }.map(f32::from))
    }

    #[inline(never)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller vouches for 16 readable lanes.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self(bits.map(|b| f32::from_bits(u32::from(b) << 16)))
    }

    #[inline(never)]
    unsafe fn store_f16(self, to: *mut u16) {
        let bits = self.0.map(|x| f16::from_f32(x).to_bits());
        // SAFETY: the caller vouches for 16 writable lanes.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(bits) }
    }

    #[inline(never)]
    unsafe fn store_bf16(self, to: *mut u16) {
        let bits = self.0.map(|x| bf16::from_f32(x).to_bits());
        // SAFETY: the caller vouches for 16 writable lanes.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(bits) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(never)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        Self(std::array::from_fn(|i| self.0[i ^ 1]))
    }

    #[inline(never)]
    unsafe fn exp2_halves(self) -> (Self, Self) {
        let exponent = |x: f32| x.to_bits().wrapping_sub(0x4B40_0000).cast_signed();
        let power = |n: i32| f32::from_bits((n.wrapping_add(127).cast_unsigned()) << 23);
        let low = self.map(|x| power(exponent(x) >> 1));
        let high = self.map(|x| power(exponent(x).wrapping_sub(exponent(x) >> 1)));
        (low, high)
    }

    #[inline(never)]
    unsafe fn reduce_add(self) -> f32 {
        let a = self.0;
        let s8: [f32; 8] = std::array::from_fn(|i| a[i] + a[i + 8]);
        let s4: [f32; 4] = std::array::from_fn(|i| s8[i] + s8[i + 4]);
        (s4[0] + s4[2]) + (s4[1] + s4[3])
    }

    #[inline(never)]
    unsafe fn reduce_max(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }

    #[inline(never)]
    unsafe fn reduce_add_4(vectors: [Self; 4], to: *mut f32) {
        for (i, v) in vectors.into_iter().enumerate() {
            // SAFETY: the caller vouches for four writable elements.
            unsafe { to.add(i).write(v.reduce_add()) }
        }
    }

    #[inline(never)]
    unsafe fn transpose_4(vectors: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|j| {
            Self(std::array::from_fn(|lane| vectors[lane % 4].0[lane / 4 * 4 + j]))
        })
    }

    #[inline(always)]
    unsafe fn store_4(self, to: *mut f32, stride: usize) {
        for (g, lanes) in self.0.chunks_exact(4).enumerate() {
            // SAFETY: the caller vouches for four writable lanes at each of the places.
            unsafe { std::ptr::copy_nonoverlapping(lanes.as_ptr(), to.add(g * stride), 4) }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}
}
