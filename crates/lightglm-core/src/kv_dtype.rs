//! `KvDtype`: what keys and values are stored as.

use std::str::FromStr;

use burn::tensor::DType;

/// Element type of stored keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvDtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16: ten bits of mantissa, numbers up to 65504.
    F16,
    /// The upper half of a binary32: seven bits of mantissa, the range of f32.
    #[default]
    Bf16,
    /// Eight-bit codes with an f32 scale for each head and token.
    Int8,
    /// [`KvDtype::Int8`] with keys under the Walsh-Hadamard transform: for models whose keys have
    /// outlier channels ([`Int8KvLayer::rotate_keys`](crate::Int8KvLayer::rotate_keys)).
    Int8Rotated,
}

impl KvDtype {
    /// Every dtype, the widest first.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Int8, Self::Int8Rotated];

    /// Bytes of the keys, or the values, of one head and token: `head_dim` numbers, or codes (padded
    /// to a multiple of four) and a scale.
    pub const fn bytes_per_head(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => 4 * head_dim,
            Self::F16 | Self::Bf16 => 2 * head_dim,
            Self::Int8 | Self::Int8Rotated => head_dim.next_multiple_of(4) + 4,
        }
    }

    /// `f32`, `f16`, `bf16`, `int8` or `int8-rotated`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int8Rotated => "int8-rotated",
        }
    }
}

/// What the numbers or codes are stored as.
impl From<KvDtype> for DType {
    fn from(dtype: KvDtype) -> Self {
        match dtype {
            KvDtype::F32 => Self::F32,
            KvDtype::F16 => Self::F16,
            KvDtype::Bf16 => Self::BF16,
            KvDtype::Int8 | KvDtype::Int8Rotated => Self::I8,
        }
    }
}

impl std::fmt::Display for KvDtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A KV cache dtype was misspelt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown KV cache dtype `{0}`: f32, f16, bf16, int8 and int8-rotated are known")]
pub struct UnknownKvDtype(pub String);

impl FromStr for KvDtype {
    type Err = UnknownKvDtype;

    fn from_str(name: &str) -> Result<Self, UnknownKvDtype> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.name() == name);
        found.ok_or_else(|| UnknownKvDtype(name.to_owned()))
    }
}
