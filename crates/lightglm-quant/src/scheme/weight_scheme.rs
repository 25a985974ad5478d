//! `WeightScheme`: how a weight becomes codes, named as torchao names it.

use lightglm_kernels::{ScaleDtype, WeightBits};

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// A row of the weight, which makes one output.
    PerChannel,
    /// So many neighbouring columns of a row.
    PerGroup(usize),
}

/// How a weight becomes codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightScheme {
    /// Bits of a code.
    pub bits: WeightBits,
    /// Which weights share a scale.
    pub granularity: Granularity,
    /// Symmetric around zero, or with a zero point (stored as the group's minimum).
    pub symmetric: bool,
    /// Precision of stored scales. Scales are rounded to it before codes are chosen.
    pub scale_dtype: ScaleDtype,
}

impl WeightScheme {
    /// Columns of a group, for rows of `in_features` columns.
    pub fn group_size(&self, in_features: usize) -> usize {
        match self.granularity {
            Granularity::PerChannel => in_features.max(1),
            Granularity::PerGroup(size) => size.min(in_features.max(1)),
        }
    }
}
