//! `CompressedTensorsCheckpoint`: another checkpoint's packed tensors as matrices.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lightglm_core::{TensorView, WeightError, WeightSource};
use lightglm_kernels::{QuantizedMatrix, ScaleDtype};

use super::packing::{code, per_word};
use super::{CompressedFormat, CompressedTensorsConfig, ConfigGroup, WeightStrategy};
use crate::formats::imported::{Part, UNROUNDED, dequantized};
use crate::formats::{FormatError, ImportedCheckpoint, ImportedLayer};
use crate::{Granularity, QuantizedScheme, WeightScheme};

/// Tensors that belong to a quantized layer, beside its codes.
const PARTS: [&str; 4] = ["weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"];

/// A checkpoint in the layouts of compressed-tensors.
///
/// As a [`WeightSource`] it has the names of the model before it was quantized, and
/// [`WeightSource::tensor`] dequantizes to f32.
pub struct CompressedTensorsCheckpoint<'a> {
    source: &'a dyn WeightSource,
    config: CompressedTensorsConfig,
    path: PathBuf,
    layers: BTreeSet<String>,
}

impl<'a> CompressedTensorsCheckpoint<'a> {
    /// The checkpoint whose tensors are in `source`; `path` is what errors call it.
    pub fn new(
        source: &'a dyn WeightSource,
        config: CompressedTensorsConfig,
        path: impl Into<PathBuf>,
    ) -> Self {
        let names: BTreeSet<String> = source.names().into_iter().collect();
        let layer = |name: &String| {
            let layer = name.strip_suffix(".weight_packed").or_else(|| {
                let layer = name.strip_suffix(".weight")?;
                names.contains(&format!("{layer}.weight_scale")).then_some(layer)
            })?;
            Some(layer.to_owned())
        };
        let layers = names.iter().filter_map(layer).collect();
        Self { source, config, path: path.into(), layers }
    }

    /// `weight: [N, K]` of signed bytes, as unsigned codes.
    fn signed_codes(
        &self,
        layer: &str,
        group: &ConfigGroup,
    ) -> Result<([usize; 2], Vec<u8>), FormatError> {
        let stored = self.stored(&format!("{layer}.weight"), &["I8"])?;
        let [n, k] = stored.matrix()?;
        let bytes = stored.bytes(1)?;
        let offset = group.weights.bits.offset();
        Ok(([n, k], bytes.iter().map(|byte| byte.wrapping_add(offset)).collect()))
    }

    /// `weight_packed: [N, W]` words, as codes.
    fn packed_codes(
        &self,
        layer: &str,
        group: &ConfigGroup,
    ) -> Result<([usize; 2], Vec<u8>), FormatError> {
        let bits = group.weights.bits;
        let stored = self.stored(&format!("{layer}.weight_packed"), &["I32"])?;
        let [rows, words] = stored.matrix()?;
        let [n, k] = self.weight_shape(layer)?;
        if rows != n || k.div_ceil(per_word(bits)) != words {
            let expected = format!("the words of `weight_shape` [{n}, {k}]");
            return Err(stored.error(&expected));
        }
        let bytes = stored.bytes(4)?;
        let rows = bytes.chunks_exact((words * 4).max(1));
        let codes = rows.flat_map(|row| (0..k).map(|at| code(row, at, bits)));
        Ok(([n, k], codes.collect()))
    }

    /// `weight_shape: [2]`: `[N, K]`.
    fn weight_shape(&self, layer: &str) -> Result<[usize; 2], FormatError> {
        let stored = self.stored(&format!("{layer}.weight_shape"), &["I64", "I32"])?;
        if stored.tensor.shape != [2] {
            return Err(stored.error("[2]"));
        }
        let size = if stored.tensor.dtype == "I64" { 8 } else { 4 };
        let bytes = stored.bytes(size)?;
        let number = |at: usize| {
            let bytes = &bytes[at * size..(at + 1) * size];
            let value = match size {
                8 => i64::from_le_bytes(bytes.try_into().expect("eight bytes")),
                _ => i32::from_le_bytes(bytes.try_into().expect("four bytes")).into(),
            };
            // What is negative fits no tensor either.
            usize::try_from(value).unwrap_or(usize::MAX)
        };
        Ok([number(0), number(1)])
    }

    /// Scales as f32: `[N, G]`.
    fn scales(
        &self,
        layer: &str,
        n: usize,
        groups: usize,
        strategy: WeightStrategy,
    ) -> Result<Vec<f32>, FormatError> {
        let stored = Part::of_floats(self.source, &format!("{layer}.weight_scale"))?;
        expect_scales(&stored, n, groups, strategy)?;
        let scales = stored.floats()?;
        Ok(spread(scales, n, strategy))
    }

    /// Unsigned codes of zero: `[N, G]`; `None` where all of them are the symmetric one.
    fn zeros(
        &self,
        layer: &str,
        n: usize,
        groups: usize,
        group: &ConfigGroup,
    ) -> Result<Option<Vec<u8>>, FormatError> {
        let (bits, name) = (group.weights.bits, format!("{layer}.weight_zero_point"));
        if group.weights.symmetric {
            // The first versions of the package kept zeros here.
            let Some(_) = self.source.shape(&name) else { return Ok(None) };
            let stored = self.source.stored(&name)?;
            return match stored.parts.iter().flatten().all(|byte| *byte == 0) {
                true => Ok(None),
                false => Err(FormatError::UnexpectedZeroPoints { name }),
            };
        }
        let stored = self.stored(&name, &["I8", "I32"])?;
        let zeros: Vec<u8> = if stored.tensor.dtype == "I8" {
            expect_scales(&stored, n, groups, group.weights.strategy)?;
            stored.bytes(1)?.iter().map(|byte| byte.wrapping_add(bits.offset())).collect()
        } else {
            let words = n.div_ceil(per_word(bits));
            if stored.tensor.shape != [words, groups] {
                return Err(stored.error(&format!("[{words}, {groups}]")));
            }
            let bytes = stored.bytes(4)?;
            // The word that holds row `n`, then the row's place in there.
            let zero = |n: usize, g: usize| {
                let word = (n / per_word(bits) * groups + g) * 4;
                code(&bytes[word..word + 4], n % per_word(bits), bits)
            };
            (0..n).flat_map(|n| (0..groups).map(move |g| (n, g))).map(|(n, g)| zero(n, g)).collect()
        };
        if let Some(&code) = zeros.iter().find(|&&code| code > bits.largest()) {
            let source =
                lightglm_kernels::PackingError::Code { code, row: 0, largest: bits.largest() };
            return Err(FormatError::Matrix { name, source });
        }
        let zeros = spread(zeros, n, group.weights.strategy);
        Ok(Some(zeros))
    }

    fn stored(&self, name: &str, dtypes: &[&str]) -> Result<Part, FormatError> {
        let expected = match dtypes {
            ["I8"] => "I8",
            ["I32"] => "I32",
            ["I64", ..] => "I64",
            _ => "I8 or I32",
        };
        Part::read(self.source, name, dtypes, expected)
    }

    fn layer_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_suffix(".weight").filter(|layer| self.is_quantized(layer))
    }

    /// Whether the tensor is a part of a quantized layer.
    fn is_part(&self, name: &str) -> bool {
        let split = name.rsplit_once('.');
        split.is_some_and(|(layer, part)| {
            self.is_quantized(layer) && (part == "weight_packed" || PARTS.contains(&part))
        })
    }
}

/// One value for all, or one a row, as one a row and group.
fn spread<T: Copy>(values: Vec<T>, n: usize, strategy: WeightStrategy) -> Vec<T> {
    match strategy {
        WeightStrategy::Tensor => vec![values[0]; n],
        _ => values,
    }
}

/// Refuses scales or zero points of another shape than one value, `[N]`, or `[N, G]`.
fn expect_scales(
    part: &Part,
    n: usize,
    groups: usize,
    strategy: WeightStrategy,
) -> Result<(), FormatError> {
    let shape = &part.tensor.shape[..];
    let (fits, expected) = match strategy {
        WeightStrategy::Tensor => (matches!(shape, [] | [1] | [1, 1]), "[1]".to_owned()),
        WeightStrategy::Channel => (shape == [n, 1] || shape == [n], format!("[{n}, 1]")),
        WeightStrategy::Group(_) => (shape == [n, groups], format!("[{n}, {groups}]")),
    };
    if fits { Ok(()) } else { Err(part.error(&expected)) }
}

impl ImportedCheckpoint for CompressedTensorsCheckpoint<'_> {
    fn layers(&self) -> Vec<String> {
        self.layers.iter().cloned().collect()
    }

    fn is_quantized(&self, name: &str) -> bool {
        self.layers.contains(name)
    }

    fn scheme(&self, name: &str) -> Result<QuantizedScheme, FormatError> {
        let group = self.config.group_of(name);
        let group = group.ok_or_else(|| FormatError::NoGroup { name: name.to_owned() })?;
        let granularity = match group.weights.strategy {
            WeightStrategy::Group(size) => Granularity::PerGroup(size),
            WeightStrategy::Tensor | WeightStrategy::Channel => Granularity::PerChannel,
        };
        Ok(QuantizedScheme {
            weight: WeightScheme {
                bits: group.weights.bits,
                granularity,
                symmetric: group.weights.symmetric,
                scale_dtype: ScaleDtype::F32,
            },
            activation: group.activation.unwrap_or(UNROUNDED),
        })
    }

    fn layer(&self, name: &str) -> Result<ImportedLayer, FormatError> {
        let group = self.config.group_of(name);
        let group = group.ok_or_else(|| FormatError::NoGroup { name: name.to_owned() })?;
        let order = format!("{name}.weight_g_idx");
        if self.source.shape(&order).is_some() {
            return Err(FormatError::ActivationOrder { name: order });
        }
        let bits = group.weights.bits;
        let (shape, codes) = match group.format {
            CompressedFormat::IntQuantized => self.signed_codes(name, group)?,
            CompressedFormat::PackQuantized => self.packed_codes(name, group)?,
        };
        let [n, k] = shape;
        let group_size = match group.weights.strategy {
            WeightStrategy::Group(size) => size,
            _ => k.max(1),
        };
        if !k.is_multiple_of(group_size) {
            let expected = format!("rows of a multiple of {group_size} columns");
            let name = format!("{name}.{}", group.format.codes());
            return Err(FormatError::Shape { name, actual: shape.into(), expected });
        }
        let groups = k / group_size;
        let scales = self.scales(name, n, groups, group.weights.strategy)?;
        let zeros = self.zeros(name, n, groups, group)?;
        let minimum = |(zero, scale): (u8, &f32)| -(f32::from(zero) * scale);
        let minimums = zeros.map(|zeros| zeros.into_iter().zip(&scales).map(minimum).collect());
        let matrix = QuantizedMatrix { shape, bits, group_size, codes, scales, minimums };
        let check = matrix.check();
        check.map_err(|source| FormatError::Matrix { name: name.to_owned(), source })?;
        Ok(ImportedLayer { matrix, activation: group.activation })
    }
}

impl WeightSource for CompressedTensorsCheckpoint<'_> {
    fn names(&self) -> Vec<String> {
        let names = self.source.names().into_iter();
        let mut names: BTreeSet<String> = names.filter(|name| !self.is_part(name)).collect();
        names.extend(self.layers.iter().map(|layer| format!("{layer}.weight")));
        names.into_iter().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let Some(layer) = self.layer_of(name) else { return self.source.shape(name) };
        self.source.shape(name).or_else(|| Some(self.weight_shape(layer).ok()?.into()))
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let Some(layer) = self.layer_of(name) else { return self.source.tensor(name) };
        dequantized(self.layer(layer), &self.path, "compressed-tensors checkpoint")
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.source.metadata(key)
    }
}
