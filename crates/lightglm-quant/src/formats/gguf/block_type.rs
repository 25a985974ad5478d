//! `BlockType`: how blocks of a GGUF type map to codes and groups.

use lightglm_kernels::{ActivationBits, ActivationFormat, ScaleDtype, WeightBits};

use super::{Block, blocks_of_32, blocks_of_256};
use crate::{Granularity, QuantizedScheme, WeightScheme};

/// The block types that are read, as GGUF spells them.
pub const GGUF_BLOCK_TYPES: [&str; 12] = [
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
    "IQ4_XS",
];

/// What activations become that meet blocks: 16 bits, so that what is lost is the file's loss alone.
pub(super) const ACTIVATION: ActivationFormat =
    ActivationFormat { bits: ActivationBits::Sixteen, group_size: None };

/// How blocks of one type map to groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockType {
    /// Elements of a block.
    pub(super) elements: usize,
    /// Bytes of a block.
    pub(super) bytes: usize,
    pub(super) bits: WeightBits,
    /// Columns of a group.
    pub(super) group_size: usize,
    pub(super) has_minimums: bool,
    /// Of a type without minimums: the smallest code, so that codes counted from there need no more
    /// bits than the file has.
    pub(super) smallest: u8,
    pub(super) scale_dtype: ScaleDtype,
    /// Whether a product of scale and code has bits to spare in f32, so that a minimum can stand for
    /// its zero without loss. Not so 11 bits of a block's scale, 6 of a group's and 8 of a table's value.
    pub(super) can_have_minimum: bool,
    pub(super) unpack: fn(&[u8], Block<'_>),
}

impl BlockType {
    /// The type that GGUF spells `dtype`; `None` for any other.
    ///
    /// Source: ggml's `ggml-common.h` (`block_*`) and `ggml-quants.c` (`dequantize_row_*`).
    pub(super) fn of(dtype: &str) -> Option<Self> {
        use ScaleDtype::{F16, Nested};
        use WeightBits::{Eight, Four};
        let (elements, bytes) = match dtype {
            "Q4_0" | "IQ4_NL" => (32, 18),
            "Q4_1" => (32, 20),
            "Q5_0" => (32, 22),
            "Q5_1" => (32, 24),
            "Q8_0" => (32, 34),
            "Q2_K" => (256, 84),
            "Q3_K" => (256, 110),
            "IQ4_XS" => (256, 136),
            "Q4_K" => (256, 144),
            "Q5_K" => (256, 176),
            "Q6_K" => (256, 210),
            _ => return None,
        };
        let unpack: fn(&[u8], Block<'_>) = match dtype {
            "Q4_0" => blocks_of_32::q4_0,
            "Q4_1" => blocks_of_32::q4_1,
            "Q5_0" => blocks_of_32::q5_0,
            "Q5_1" => blocks_of_32::q5_1,
            "Q8_0" => blocks_of_32::q8_0,
            "IQ4_NL" => blocks_of_32::iq4_nl,
            "Q2_K" => blocks_of_256::q2_k,
            "Q3_K" => blocks_of_256::q3_k,
            "Q4_K" => blocks_of_256::q4_k,
            "Q5_K" => blocks_of_256::q5_k,
            "Q6_K" => blocks_of_256::q6_k,
            _ => blocks_of_256::iq4_xs,
        };
        let bits =
            if matches!(dtype, "Q4_0" | "Q4_1" | "Q2_K" | "Q3_K" | "Q4_K") { Four } else { Eight };
        Some(Self {
            elements,
            bytes,
            bits,
            group_size: if matches!(dtype, "Q2_K" | "Q3_K" | "Q6_K") { 16 } else { 32 },
            has_minimums: matches!(dtype, "Q4_1" | "Q5_1" | "Q2_K" | "Q4_K" | "Q5_K"),
            smallest: match dtype {
                "Q5_0" => 112,
                "Q3_K" => 4,
                "Q6_K" => 96,
                _ => 0,
            },
            scale_dtype: if elements == 32 { F16 } else { Nested },
            can_have_minimum: dtype != "IQ4_XS",
            unpack,
        })
    }

    /// What a matrix of such blocks is.
    pub(super) fn scheme(&self) -> QuantizedScheme {
        QuantizedScheme {
            weight: WeightScheme {
                bits: self.bits,
                granularity: Granularity::PerGroup(self.group_size),
                symmetric: !self.has_minimums,
                scale_dtype: self.scale_dtype,
            },
            activation: ACTIVATION,
        }
    }
}
