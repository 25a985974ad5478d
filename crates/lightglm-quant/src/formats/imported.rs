//! `ImportedCheckpoint`: what the readers of other programs' quantized folders have in common.

use std::borrow::Cow;
use std::path::Path;

use bytes::Bytes;
use half::{bf16, f16};
use lightglm_core::{StoredTensor, TensorView, WeightDtype, WeightError, WeightSource};
use lightglm_kernels::{ActivationBits, ActivationFormat, QuantizedMatrix};

use crate::QuantizedScheme;
use crate::formats::FormatError;

/// How inputs are held that the file does not quantize: 16 bits, one scale a token.
pub(super) const UNROUNDED: ActivationFormat =
    ActivationFormat { bits: ActivationBits::Sixteen, group_size: None };

/// A quantized layer of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedLayer {
    /// The weight: the file's codes and scales.
    pub matrix: QuantizedMatrix,
    /// How the layer's inputs are quantized, or `None` where they are not.
    pub activation: Option<ActivationFormat>,
}

/// A checkpoint whose layers another program quantized.
///
/// As a [`WeightSource`] it has the names of the model before it was quantized, and
/// [`WeightSource::tensor`] dequantizes layers to f32.
pub trait ImportedCheckpoint: WeightSource {
    /// The quantized layers, without `.weight`, sorted.
    fn layers(&self) -> Vec<String>;

    /// Whether the layer `name` (without `.weight`) is quantized.
    fn is_quantized(&self, name: &str) -> bool;

    /// The scheme of the quantized layer `name`, which keeps its codes and scales, from headers alone.
    /// Inputs that are not quantized there have 16 bits, one scale a token.
    ///
    /// # Errors
    /// [`FormatError`] naming the layer or the tensor.
    fn scheme(&self, name: &str) -> Result<QuantizedScheme, FormatError>;

    /// The quantized layer `name`, without `.weight`.
    ///
    /// # Errors
    /// [`FormatError`] naming the tensor that is missing or does not fit.
    fn layer(&self, name: &str) -> Result<ImportedLayer, FormatError>;
}

impl ImportedLayer {
    /// The layer whose row `i` is this one's row `from(i)`.
    ///
    /// # Panics
    /// Where there is no such row.
    #[must_use]
    pub fn with_rows(self, from: impl Fn(usize) -> usize) -> Self {
        fn gather<T: Copy>(values: &[T], rows: usize, from: impl Fn(usize) -> usize) -> Vec<T> {
            let width = values.len() / rows.max(1);
            let row = |row| &values[from(row) * width..][..width];
            (0..rows).flat_map(row).copied().collect()
        }
        let QuantizedMatrix { shape, codes, scales, minimums, .. } = &self.matrix;
        let rows = shape[0];
        let matrix = QuantizedMatrix {
            codes: gather(codes, rows, &from),
            scales: gather(scales, rows, &from),
            minimums: minimums.as_ref().map(|minimums| gather(minimums, rows, &from)),
            ..self.matrix
        };
        Self { matrix, ..self }
    }

    /// The layer `name` whose rows are those of `first`, then those of `second`.
    ///
    /// # Errors
    /// [`FormatError::Halves`] where the two are not quantized alike.
    pub fn stacked(name: &str, first: Self, second: Self) -> Result<Self, FormatError> {
        let kind = |layer: &Self| {
            let QuantizedMatrix { shape, bits, group_size, minimums, .. } = &layer.matrix;
            (shape[1], *bits, *group_size, minimums.is_some(), layer.activation)
        };
        if kind(&first) != kind(&second) {
            return Err(FormatError::Halves { name: name.to_owned() });
        }
        let Self { mut matrix, activation } = first;
        matrix.shape[0] += second.matrix.shape[0];
        matrix.codes.extend(second.matrix.codes);
        matrix.scales.extend(second.matrix.scales);
        if let (Some(minimums), Some(more)) = (&mut matrix.minimums, second.matrix.minimums) {
            minimums.extend(more);
        }
        Ok(Self { matrix, activation })
    }

    /// The layer's weight in f32.
    fn dequantized(&self) -> TensorView {
        let values = self.matrix.dequantize();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (shape, bytes) = (self.matrix.shape.into(), Bytes::from(bytes));
        TensorView { dtype: WeightDtype::F32, shape, bytes }
    }
}

/// What [`WeightSource::tensor`] says of a quantized layer of the checkpoint `file`.
pub(super) fn dequantized(
    layer: Result<ImportedLayer, FormatError>,
    file: &Path,
    format: &'static str,
) -> Result<TensorView, WeightError> {
    let layer = layer.map_err(|error| match error {
        FormatError::Weights(error) => error,
        other => WeightError::Malformed { file: file.into(), format, reason: other.to_string() },
    })?;
    Ok(layer.dequantized())
}

/// So that a checkpoint of any format can stand where a source is wanted.
impl WeightSource for Box<dyn ImportedCheckpoint + '_> {
    fn names(&self) -> Vec<String> {
        (**self).names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        (**self).shape(name)
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        (**self).tensor(name)
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        (**self).stored(name)
    }

    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        (**self).stored_rows(name)
    }

    fn metadata(&self, key: &str) -> Option<String> {
        (**self).metadata(key)
    }
}

/// A tensor of a layer.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) tensor: StoredTensor,
}

impl Part {
    /// The tensor `name`, which must be of one of `dtypes`; errors spell them as `expected`.
    pub(super) fn read(
        source: &dyn WeightSource,
        name: &str,
        dtypes: &[&str],
        expected: &'static str,
    ) -> Result<Self, FormatError> {
        let tensor = source.stored(name)?;
        if !dtypes.contains(&tensor.dtype.as_str()) {
            let (name, dtype) = (name.to_owned(), tensor.dtype);
            return Err(FormatError::Dtype { name, dtype, expected });
        }
        Ok(Self { name: name.to_owned(), tensor })
    }

    /// Floating-point numbers, whatever their precision.
    pub(super) fn of_floats(source: &dyn WeightSource, name: &str) -> Result<Self, FormatError> {
        Self::read(source, name, &["F32", "F16", "BF16"], "F32, F16 or BF16")
    }

    /// `[rows, columns]`, neither of them 0.
    pub(super) fn matrix(&self) -> Result<[usize; 2], FormatError> {
        match self.tensor.shape[..] {
            [n, k] if n > 0 && k > 0 => Ok([n, k]),
            _ => Err(self.error("[out_features, in_features], neither of them 0")),
        }
    }

    /// The bytes, as many as the shape asks for.
    pub(super) fn bytes(&self, size: usize) -> Result<Cow<'_, [u8]>, FormatError> {
        let bytes = match &self.tensor.parts[..] {
            [one] => Cow::Borrowed(&one[..]),
            many => Cow::Owned(many.iter().flatten().copied().collect()),
        };
        let elements = self.tensor.shape.iter().try_fold(size, |n, &d| n.checked_mul(d));
        let expected = elements.unwrap_or(usize::MAX);
        match bytes.len() == expected {
            true => Ok(bytes),
            false => {
                Err(FormatError::Length { name: self.name.clone(), expected, actual: bytes.len() })
            }
        }
    }

    /// The numbers of a tensor that was read by [`Self::of_floats`].
    pub(super) fn floats(&self) -> Result<Vec<f32>, FormatError> {
        let two = |b: &[u8]| [b[0], b[1]];
        Ok(match self.tensor.dtype.as_str() {
            "F32" => {
                let four = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                self.bytes(4)?.chunks_exact(4).map(four).collect()
            }
            "F16" => {
                let half = |b: &[u8]| f16::from_le_bytes(two(b)).to_f32();
                self.bytes(2)?.chunks_exact(2).map(half).collect()
            }
            _ => {
                let half = |b: &[u8]| bf16::from_le_bytes(two(b)).to_f32();
                self.bytes(2)?.chunks_exact(2).map(half).collect()
            }
        })
    }

    /// The error that the shape is not `expected`.
    pub(super) fn error(&self, expected: &str) -> FormatError {
        let (name, actual) = (self.name.clone(), self.tensor.shape.clone());
        FormatError::Shape { name, actual, expected: expected.to_owned() }
    }
}
