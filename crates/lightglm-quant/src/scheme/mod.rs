//! Schemes: what a matrix becomes, and how that is spelled.

mod error;
mod name;
mod weight_scheme;

pub use error::SchemeError;
pub use weight_scheme::{Granularity, WeightScheme};

use lightglm_kernels::{
    ActivationBits, ActivationFormat, CodeOrder, PackedFormat, PackedSizes, PackingError,
    ScaleDtype, WeightBits,
};

/// Columns of a group of activations where a scheme does not say.
const ACTIVATION_GROUP: usize = 128;

/// What a matrix becomes.
///
/// Written as text (`"int4wo-g64".parse()`), a scheme is one of
///
/// ```text
/// dense                        as the checkpoint stores it
/// int8, int4                   the defaults: Scheme::INT8, Scheme::INT4
/// int8wo, int4wo-g64           weight-only: activations lose (next to) nothing
/// w8a8, w4a8-g128, w8a16-ag32  bits of weights, bits of activations
/// ```
/// with, behind all but `dense`, `int8` and `int4`, in any order
///
/// ```text
/// -g128          groups of 128 columns of a row share a scale; left out: the whole row
/// -zp            with a zero point; left out: symmetric
/// -ag64          groups of 64 activations of a token share a scale; -at: all of the token do
/// -f16, -f32     precision of the scales; left out: f32 for whole rows, f16 for groups
/// -nested        scales of GGUF's K types (ScaleDtype::Nested); nothing is quantized to it
/// ```
/// Left out, activations share a scale over the token in `w8a8`-like names and over up to 128 columns
/// in the weight-only ones, which quantize activations to 16 bits: finer than bf16.
///
/// torchao calls them: `int8wo` Int8WeightOnly, `int4wo-g128` Int4WeightOnly (`-zp` as its default
/// is asymmetric), `w8a8` Int8DynamicActivationInt8Weight, `w4a8-g32` Int8DynamicActivationInt4Weight.
///
/// ```
/// use lightglm_quant::Scheme;
/// let scheme: Scheme = "int4wo-g64-zp".parse()?;
/// assert_eq!(scheme.to_string(), "int4wo-g64-zp");
/// assert_eq!(scheme.spelled_out(), "w4a16-g64-ag128-zp-f16");
/// assert_eq!(scheme.spelled_out().parse::<Scheme>()?, scheme);
/// # Ok::<(), lightglm_quant::SchemeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// As the checkpoint stores it.
    Dense,
    /// Codes and scales.
    Quantized(QuantizedScheme),
}

/// How a matrix is quantized, and the activations that meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuantizedScheme {
    /// How the weights are.
    pub weight: WeightScheme,
    /// How the activations are, at run time.
    pub activation: ActivationFormat,
}

impl Scheme {
    /// The scheme named `int8`: 8 bits, symmetric, in groups of 64 with f16 scales; activations of 8
    /// bits in groups of 64. Tables as [`Self::for_tables`] says.
    pub const INT8: Self = Self::Quantized(QuantizedScheme {
        weight: WeightScheme {
            bits: WeightBits::Eight,
            granularity: Granularity::PerGroup(64),
            symmetric: true,
            scale_dtype: ScaleDtype::F16,
        },
        activation: ActivationFormat { bits: ActivationBits::Eight, group_size: Some(64) },
    });

    /// The scheme named `int4`: 4 bits, symmetric, in groups of 64 with f16 scales (4.25 bits a
    /// weight); activations of 8 bits in groups of 64, whose loss is small beside that of the weights.
    pub const INT4: Self = Self::Quantized(QuantizedScheme {
        weight: WeightScheme {
            bits: WeightBits::Four,
            granularity: Granularity::PerGroup(64),
            symmetric: true,
            scale_dtype: ScaleDtype::F16,
        },
        activation: ActivationFormat { bits: ActivationBits::Eight, group_size: Some(64) },
    });

    /// What an embedding table or a head becomes where the other matrices become this: under
    /// [`Self::INT8`] and all schemes of 4 bits, 8 bits in groups of 32 with activations of 16 bits.
    ///
    /// Their loss meets every token, and all they cost is one product a token: on SmolLM2 it takes a
    /// quarter off the KL divergence of `int8`.
    pub fn for_tables(self) -> Self {
        const TABLES: Scheme = Scheme::Quantized(QuantizedScheme {
            weight: WeightScheme {
                bits: WeightBits::Eight,
                granularity: Granularity::PerGroup(32),
                symmetric: true,
                scale_dtype: ScaleDtype::F16,
            },
            activation: ActivationFormat { bits: ActivationBits::Sixteen, group_size: None },
        });
        match self {
            Self::Quantized(scheme) if scheme.weight.bits == WeightBits::Four => TABLES,
            Self::INT8 => TABLES,
            other => other,
        }
    }
}

impl QuantizedScheme {
    /// The packed format of a matrix with rows of `in_features` columns.
    ///
    /// # Errors
    /// [`PackingError`] where the groups do not fit.
    pub fn format(&self, in_features: usize) -> Result<PackedFormat, PackingError> {
        let format = PackedFormat {
            bits: self.weight.bits,
            group_size: self.weight.group_size(in_features),
            has_minimums: !self.weight.symmetric,
            scale_dtype: self.weight.scale_dtype,
            activation: self.activation,
            order: CodeOrder::Panels,
        };
        format.check(in_features).map(|()| format)
    }

    /// Bytes of a packed matrix of `shape` (`[N, K]`): codes, scales and minimums.
    ///
    /// # Errors
    /// As [`Self::format`].
    pub fn bytes(&self, shape: [usize; 2]) -> Result<u64, PackingError> {
        let format = self.format(shape[1])?;
        let sizes = PackedSizes::new(shape, &format);
        let floats = sizes.scales * if format.has_minimums { 2 } else { 1 };
        Ok(sizes.codes as u64 + (floats * format.scale_dtype.size()) as u64)
    }
}

/// The groups of activations that a weight-only scheme has where its name does not say: up to
/// [`ACTIVATION_GROUP`] columns, and fitting groups of weights.
fn weight_only_group(granularity: Granularity) -> usize {
    match granularity {
        Granularity::PerGroup(size)
            if size > 0
                && !ACTIVATION_GROUP.is_multiple_of(size)
                && !size.is_multiple_of(ACTIVATION_GROUP) =>
        {
            size
        }
        _ => ACTIVATION_GROUP,
    }
}
