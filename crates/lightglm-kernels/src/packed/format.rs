//! How a matrix and the activations that meet it are quantized.

use super::{PANEL_ROWS, PackingError};

/// Bits of a weight's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightBits {
    /// 0 to 15, two to a byte.
    Four,
    /// 0 to 255.
    Eight,
}

impl WeightBits {
    /// Columns of a row whose codes are four bytes: 8 or 4.
    pub const fn columns_of_step(self) -> usize {
        32 / self.count()
    }

    /// 4 or 8.
    pub const fn count(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The code that stands for zero in a symmetric matrix: 8 or 128.
    pub const fn offset(self) -> u8 {
        match self {
            Self::Four => 8,
            Self::Eight => 128,
        }
    }

    /// 15 or 255.
    pub const fn largest(self) -> u8 {
        match self {
            Self::Four => 15,
            Self::Eight => 255,
        }
    }
}

/// Precision of stored scales and minimums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleDtype {
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// A unit in IEEE 754 binary16 for [`Self::NESTED_COLUMNS`] columns, of which the scale of each group is
    /// a multiple by a whole number of 8 bits, and so is its minimum: what GGUF's K types hold (ggml's
    /// `ggml-common.h`, `block_q4_K`). Their products are those of f32, to the bit.
    Nested,
}

impl ScaleDtype {
    /// Columns of a unit of [`Self::Nested`].
    pub const NESTED_COLUMNS: usize = 256;

    /// Bytes of one scale, or of one unit.
    pub const fn size(self) -> usize {
        match self {
            Self::F16 | Self::Nested => 2,
            Self::F32 => 4,
        }
    }
}

/// In which order codes lie, which decides what a kernel can leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CodeOrder {
    /// Panels of 32 rows: the best for dense products of any number of tokens.
    #[default]
    Panels,
    /// Runs of an input channel's codes for up to 4096 (8 bits) or 8192 (4 bits) rows: a channel whose
    /// activation is zero is a run of bytes that is not read. Products of more than a few tokens are
    /// brought into panels as they are computed, which costs some of their speed and no memory. Worth it
    /// for matrices of 1024 rows and more: short runs are slow to read.
    Channels,
}

/// Bits of an activation's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationBits {
    /// -127 to 127.
    Eight,
    /// -32512 to 32512 (127 * 256): two 8-bit halves, two dot products, unless the processor multiplies
    /// in 16 bits anyway. Finer than bf16 within a group, so that what is lost is the weights' loss alone.
    Sixteen,
}

impl ActivationBits {
    /// The largest code: 127 or 32512.
    pub const fn largest(self) -> i32 {
        match self {
            Self::Eight => 127,
            Self::Sixteen => 127 * 256,
        }
    }
}

/// How activations are quantized, at run time and symmetrically, before they meet the weights.
///
/// ```text
/// scale = max |x| over the group / largest   (1 where the group is all zero)
/// code  = round half to even (x / scale)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationFormat {
    /// Bits of a code.
    pub bits: ActivationBits,
    /// Columns that share a scale; `None` for one scale a token.
    pub group_size: Option<usize>,
}

impl ActivationFormat {
    /// 8 bits, one scale a token.
    pub const INT8_PER_TOKEN: Self = Self { bits: ActivationBits::Eight, group_size: None };
}

/// What a [`PackedMatrix`](super::PackedMatrix) is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedFormat {
    /// Bits of a weight's code.
    pub bits: WeightBits,
    /// Columns that share a scale: a multiple of 8, or the whole row. The last group of a row may be
    /// shorter.
    pub group_size: usize,
    /// Whether groups have a minimum (`w = code * scale + minimum`) or are symmetric
    /// (`w = (code - offset) * scale`).
    pub has_minimums: bool,
    /// Precision of scales and minimums.
    pub scale_dtype: ScaleDtype,
    /// How activations are quantized.
    pub activation: ActivationFormat,
    /// In which order the codes lie. Outputs are the same in either, bit for bit.
    pub order: CodeOrder,
}

impl PackedFormat {
    /// Checks the format against rows of `in_features` columns.
    ///
    /// # Errors
    /// [`PackingError::GroupSize`], [`PackingError::ActivationGroupSize`], [`PackingError::NestedGroups`],
    /// [`PackingError::NestedOrder`].
    pub fn check(&self, in_features: usize) -> Result<(), PackingError> {
        check_group(self.group_size, in_features)?;
        if self.scale_dtype == ScaleDtype::Nested {
            let (group_size, unit) = (self.group_size, ScaleDtype::NESTED_COLUMNS);
            if !in_features.is_multiple_of(unit) || !unit.is_multiple_of(group_size) {
                return Err(PackingError::NestedGroups { group_size, in_features });
            }
            if self.order != CodeOrder::Panels {
                return Err(PackingError::NestedOrder);
            }
        }
        let Some(activation) = self.activation.group_size else { return Ok(()) };
        check_group(activation, in_features)?;
        let (weight, whole) = (self.group_size, in_features);
        let fits = weight >= whole
            || activation >= whole
            || weight.is_multiple_of(activation)
            || activation.is_multiple_of(weight);
        match fits {
            true => Ok(()),
            false => Err(PackingError::ActivationGroupSize { weight, activation }),
        }
    }

    /// Scales of a row of `in_features` columns, or units of them.
    pub(crate) fn scales_of_row(&self, in_features: usize) -> usize {
        match self.scale_dtype {
            ScaleDtype::Nested => in_features.div_ceil(ScaleDtype::NESTED_COLUMNS),
            _ => self.groups(in_features),
        }
    }

    /// Bytes of a panel's multipliers, which follow its codes.
    pub(crate) fn multipliers_of_panel(&self, in_features: usize) -> usize {
        match self.scale_dtype {
            ScaleDtype::Nested => PANEL_ROWS * self.parts() * self.groups(in_features),
            _ => 0,
        }
    }

    /// Scales alone, or scales and minimums: 1 or 2.
    pub(crate) fn parts(&self) -> usize {
        1 + usize::from(self.has_minimums)
    }

    /// Groups of a row of `in_features` columns.
    pub fn groups(&self, in_features: usize) -> usize {
        in_features.div_ceil(self.group_size.max(1))
    }
}

pub(super) fn check_group(group_size: usize, in_features: usize) -> Result<(), PackingError> {
    let whole = group_size >= in_features && group_size > 0;
    match whole || (group_size > 0 && group_size.is_multiple_of(8)) {
        true => Ok(()),
        false => Err(PackingError::GroupSize { group_size, in_features }),
    }
}
