//! `CompressedFormat`: where codes and scales lie.

/// How a group's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompressedFormat {
    /// `int-quantized`: a signed byte a code.
    IntQuantized,
    /// `pack-quantized`: codes packed into 32-bit words.
    PackQuantized,
}

impl CompressedFormat {
    /// The name in config.json.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IntQuantized => "int-quantized",
            Self::PackQuantized => "pack-quantized",
        }
    }

    /// The format of this name. `naive-quantized` is the package's other name of `int-quantized`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "int-quantized" | "naive-quantized" => Some(Self::IntQuantized),
            "pack-quantized" => Some(Self::PackQuantized),
            _ => None,
        }
    }

    /// The suffix of the tensor that holds the codes.
    pub(super) const fn codes(self) -> &'static str {
        match self {
            Self::IntQuantized => "weight",
            Self::PackQuantized => "weight_packed",
        }
    }
}
