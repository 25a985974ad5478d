//! `Element`: f32, f16 and bf16 as stored numbers that are computed with in f32.

use half::{bf16, f16};

use super::simd::Simd;

/// A stored number type.
///
/// # Safety of the methods
/// As for [`Simd`]; pointers must be valid for 16 elements, or for `len < 16`.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Whether `load` is a plain f32 load.
    const IS_F32: bool;
    /// Loads 16 elements as f32, exactly.
    unsafe fn load<S: Simd>(from: *const Self) -> S;
    /// Loads `len` elements; the other lanes are zero.
    unsafe fn load_part<S: Simd>(from: *const Self, len: usize) -> S;
    /// Rounds to nearest even and stores 16 lanes.
    unsafe fn store<S: Simd>(vector: S, to: *mut Self);
    /// One number, rounded to nearest even.
    fn from_f32(value: f32) -> Self;
}

impl Element for f32 {
    const IS_F32: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S {
        // SAFETY: the caller's contract is the same.
        unsafe { S::load(from) }
    }

    #[inline(always)]
    unsafe fn load_part<S: Simd>(from: *const Self, len: usize) -> S {
        // SAFETY: the caller's contract is the same.
        unsafe { S::load_part(from, len) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(vector: S, to: *mut Self) {
        // SAFETY: the caller's contract is the same.
        unsafe { vector.store(to) }
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Element for f16 {
    const IS_F32: bool = false;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S {
        // SAFETY: `f16` is a transparent u16; the rest is the caller's contract.
        unsafe { S::load_f16(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_part<S: Simd>(from: *const Self, len: usize) -> S {
        // SAFETY: as in `load`.
        unsafe { S::load_f16_part(from.cast(), len) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(vector: S, to: *mut Self) {
        // SAFETY: as in `load`.
        unsafe { vector.store_f16(to.cast()) }
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }
}

impl Element for bf16 {
    const IS_F32: bool = false;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S {
        // SAFETY: `bf16` is a transparent u16; the rest is the caller's contract.
        unsafe { S::load_bf16(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_part<S: Simd>(from: *const Self, len: usize) -> S {
        // SAFETY: as in `load`.
        unsafe { S::load_bf16_part(from.cast(), len) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(vector: S, to: *mut Self) {
        // SAFETY: as in `load`.
        unsafe { vector.store_bf16(to.cast()) }
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }
}
