//! `Weights`: a matrix in the precision it is stored in.

use half::{bf16, f16};

/// A row-major matrix of weights, read in place.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Weights<'a> {
    /// IEEE 754 binary32.
    F32(&'a [f32]),
    /// IEEE 754 binary16.
    F16(&'a [f16]),
    /// The upper half of a binary32.
    Bf16(&'a [bf16]),
}

impl Weights<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(w) => w.len(),
            Self::F16(w) => w.len(),
            Self::Bf16(w) => w.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all elements.
    pub fn size_in_bytes(&self) -> usize {
        match self {
            Self::F32(w) => size_of_val(*w),
            Self::F16(w) => size_of_val(*w),
            Self::Bf16(w) => size_of_val(*w),
        }
    }
}
