//! Element types of GGUF tensors.

use lightglm_core::WeightDtype;

/// How a GGUF tensor's elements are stored: plain, or in blocks along the innermost dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GgmlType {
    /// Plain binary32.
    F32,
    /// Plain binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// 32 elements of 4 bits, a scale.
    Q4_0,
    /// 32 elements of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 elements of 5 bits, a scale.
    Q5_0,
    /// 32 elements of 5 bits, a scale and a minimum.
    Q5_1,
    /// 32 elements of 8 bits, a scale.
    Q8_0,
    /// 256 elements of 2 bits, 16 scales and minima of 4 bits.
    Q2K,
    /// 256 elements of 3 bits, 16 scales of 6 bits.
    Q3K,
    /// 256 elements of 4 bits, 8 scales and minima of 6 bits.
    Q4K,
    /// 256 elements of 5 bits, 8 scales and minima of 6 bits.
    Q5K,
    /// 256 elements of 6 bits, 16 scales of 8 bits.
    Q6K,
    /// 32 elements of 4 bits that choose from a table, a scale.
    Iq4Nl,
    /// 256 elements of 4 bits that choose from a table, 8 scales of 6 bits.
    Iq4Xs,
}

/// Number in the format, type, name, elements of a block, bytes of a block.
///
/// Source: ggml's `ggml.h` (`enum ggml_type`) and `ggml-common.h` (`block_*`).
const TYPES: [(u32, GgmlType, &str, usize, usize); 15] = [
    (0, GgmlType::F32, "F32", 1, 4),
    (1, GgmlType::F16, "F16", 1, 2),
    (2, GgmlType::Q4_0, "Q4_0", 32, 18),
    (3, GgmlType::Q4_1, "Q4_1", 32, 20),
    (6, GgmlType::Q5_0, "Q5_0", 32, 22),
    (7, GgmlType::Q5_1, "Q5_1", 32, 24),
    (8, GgmlType::Q8_0, "Q8_0", 32, 34),
    (10, GgmlType::Q2K, "Q2_K", 256, 84),
    (11, GgmlType::Q3K, "Q3_K", 256, 110),
    (12, GgmlType::Q4K, "Q4_K", 256, 144),
    (13, GgmlType::Q5K, "Q5_K", 256, 176),
    (14, GgmlType::Q6K, "Q6_K", 256, 210),
    (20, GgmlType::Iq4Nl, "IQ4_NL", 32, 18),
    (23, GgmlType::Iq4Xs, "IQ4_XS", 256, 136),
    (30, GgmlType::Bf16, "BF16", 1, 2),
];

/// The other types, which are not supported, for messages.
///
/// Source: ggml's `ggml.h` (`enum ggml_type`).
const OTHERS: [(u32, &str); 17] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// What messages call the unsupported type `number`: `MXFP4`, `ggml type 99`.
pub(super) fn unsupported_name(number: u32) -> String {
    match OTHERS.iter().find(|other| other.0 == number) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("ggml type {number}"),
    }
}

impl GgmlType {
    /// The type with this number in the format, or `None` for one that is not supported.
    pub fn from_number(number: u32) -> Option<Self> {
        TYPES.iter().find(|row| row.0 == number).map(|row| row.1)
    }

    /// Its number in the format.
    pub fn number(self) -> u32 {
        self.row().0
    }

    /// The type that llama.cpp prints as `name`, in letters of any case; `None` where there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        TYPES.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.1)
    }

    /// The name llama.cpp prints: `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Elements of a block.
    pub fn block_elements(self) -> usize {
        self.row().3
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// The dtype of a type that is stored plainly.
    pub fn plain_dtype(self) -> Option<WeightDtype> {
        match self {
            Self::F32 => Some(WeightDtype::F32),
            Self::F16 => Some(WeightDtype::F16),
            Self::Bf16 => Some(WeightDtype::Bf16),
            _ => None,
        }
    }

    fn row(self) -> &'static (u32, Self, &'static str, usize, usize) {
        TYPES.iter().find(|row| row.1 == self).expect("every type has its row")
    }
}
