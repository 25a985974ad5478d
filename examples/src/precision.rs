//! `--dtype` and `--kv-dtype`.

use lightglm_core::KvDtype;
use lightglm_core::WeightDtype;
use lightglm_model::decoder::LoadPrecision;

/// A precision of weights, or of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Precision {
    /// As a precision of weights.
    pub fn weight(self) -> WeightDtype {
        match self {
            Self::F32 => WeightDtype::F32,
            Self::F16 => WeightDtype::F16,
            Self::Bf16 => WeightDtype::Bf16,
        }
    }

    /// As a precision of keys and values.
    pub fn kv(self) -> KvDtype {
        match self {
            Self::F32 => KvDtype::F32,
            Self::F16 => KvDtype::F16,
            Self::Bf16 => KvDtype::Bf16,
        }
    }

    /// Loading in this precision, or as stored where none is asked for.
    pub fn load(precision: Option<Self>) -> LoadPrecision {
        precision.map_or(LoadPrecision::Stored, |p| LoadPrecision::Convert(p.weight()))
    }
}

impl From<WeightDtype> for Precision {
    fn from(dtype: WeightDtype) -> Self {
        match dtype {
            WeightDtype::F32 => Self::F32,
            WeightDtype::F16 => Self::F16,
            WeightDtype::Bf16 => Self::Bf16,
        }
    }
}
