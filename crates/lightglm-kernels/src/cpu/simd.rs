//! `Simd`: sixteen f32 lanes, whatever registers they lie in.
//!
//! Every algorithm of this crate is written once over this trait. The lane count is part of the
//! numerical contract (which products meet in which partial sum), so it is the same on every
//! instruction set: one zmm register, two ymm, four NEON q registers, or an array.

/// Lanes of a [`Simd`] vector.
pub(crate) const LANES: usize = 16;

/// A vector of [`LANES`] f32 lanes.
///
/// Implementations must agree bit for bit in every method (NaN payloads excepted).
///
/// # Safety of the methods
/// Each method may only run on a CPU that has the instruction set of the implementor, which the
/// entry functions made by `kernel!` guarantee; all code in between is `inline(always)` so that it
/// is compiled with that instruction set. Pointers need no alignment but must be valid for the
/// lanes named.
pub(crate) trait Simd: Copy {
    /// Whether one vector is one register out of 32, which decides the tile sizes.
    const WIDE: bool;

    /// All lanes zero.
    unsafe fn zero() -> Self;
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self;
    /// Loads 16 lanes.
    unsafe fn load(from: *const f32) -> Self;
    /// Stores 16 lanes.
    unsafe fn store(self, to: *mut f32);
    /// Loads 16 IEEE half-precision numbers.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// Loads 16 signed bytes as floats.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// Loads 16 bfloat16 numbers.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Rounds to half precision (nearest even) and stores 16 lanes.
    unsafe fn store_f16(self, to: *mut u16);
    /// Rounds to bfloat16 (nearest even) and stores 16 lanes.
    unsafe fn store_bf16(self, to: *mut u16);

    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// `self / other`.
    unsafe fn div(self, other: Self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// `if self > other { self } else { other }`: `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// `if self < other { self } else { other }`: `other` where either is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// Exchanges the lanes `2i` and `2i + 1`.
    unsafe fn swap_pairs(self) -> Self;
    /// For lanes that hold `1.5 * 2^23 + n` with an integer `n` in `-250..=250`: two powers of two
    /// whose product is `2^n`. Two, because `2^n` itself may be subnormal or infinite.
    unsafe fn exp2_halves(self) -> (Self, Self);
    /// The sum of the lanes: `s[i] = a[i] + a[i + 8]`, then `+ 4`, `+ 2`, `+ 1`.
    unsafe fn reduce_add(self) -> f32;
    /// The largest lane; unspecified among NaN lanes.
    unsafe fn reduce_max(self) -> f32;
    /// [`Simd::reduce_add`] of four vectors at once, written to `to[0..4]`.
    unsafe fn reduce_add_4(vectors: [Self; 4], to: *mut f32);
    /// Transposes the 4x4 blocks of four vectors: lane `4g + i` of result `j` is lane `4g + j` of
    /// vector `i`.
    unsafe fn transpose_4(vectors: [Self; 4]) -> [Self; 4];
    /// Stores the lanes `4g..4g + 4` at `to + g * stride`, in the order of `g = 0..4`.
    unsafe fn store_4(self, to: *mut f32, stride: usize);
    /// Asks for the cache line at `at`, which need not be a valid address, in the second-level cache
    /// (the first has room for few requests, and then everything waits).
    unsafe fn prefetch(at: *const u8);

    /// Loads `len < 16` lanes; the others are zero.
    #[inline(always)]
    unsafe fn load_part(from: *const f32, len: usize) -> Self {
        let mut lanes = [0.0f32; LANES];
        // SAFETY: the caller vouches for `len` readable elements, and `len < 16`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
            Self::load(lanes.as_ptr())
        }
    }

    /// Stores the first `len < 16` lanes.
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, len: usize) {
        let mut lanes = [0.0f32; LANES];
        // SAFETY: the caller vouches for `len` writable elements, and `len < 16`.
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
        }
    }

    /// [`Simd::load_f16`] of `len < 16` lanes; the others are zero.
    #[inline(always)]
    unsafe fn load_f16_part(from: *const u16, len: usize) -> Self {
        let mut lanes = [0u16; LANES];
        // SAFETY: as in `load_part`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
            Self::load_f16(lanes.as_ptr())
        }
    }

    /// [`Simd::load_bf16`] of `len < 16` lanes; the others are zero.
    #[inline(always)]
    unsafe fn load_bf16_part(from: *const u16, len: usize) -> Self {
        let mut lanes = [0u16; LANES];
        // SAFETY: as in `load_part`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
            Self::load_bf16(lanes.as_ptr())
        }
    }

    /// The first `len < 16` lanes of `self`, the others `fill`.
    #[inline(always)]
    unsafe fn keep_first(self, len: usize, fill: f32) -> Self {
        let mut lanes = [fill; LANES];
        // SAFETY: the array has 16 lanes.
        unsafe {
            self.store_part(lanes.as_mut_ptr(), len);
            Self::load(lanes.as_ptr())
        }
    }
}
