//! `StoredBlocks`: a matrix of blocks, of one type or stacked by rows from several.
//!
//! Shapes: `N` out_features, `K` in_features.

use std::ops::Range;

use bytes::Bytes;
use lightglm_core::StoredTensor;
use lightglm_kernels::{QuantizedMatrix, ScaleDtype, WeightBits};

use super::block_type::BlockType;
use super::{FormatError, unpack_rows};
use crate::{Granularity, QuantizedScheme, WeightScheme};

/// A matrix `[N, K]` as blocks in the bytes of a file.
#[derive(Clone, Debug)]
pub(crate) struct StoredBlocks {
    shape: [usize; 2],
    scheme: QuantizedScheme,
    parts: Vec<Part>,
}

/// Rows of one type.
#[derive(Clone, Debug)]
struct Part {
    kind: BlockType,
    rows: Range<usize>,
    bytes: Bytes,
}

/// Why blocks are no matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoredBlocksError {
    /// A tensor of this shape is no matrix.
    Shape(Vec<usize>),
    /// Rows of `in_features` end inside a block of `block` elements of type `dtype`.
    Blocks { dtype: String, in_features: usize, block: usize },
    /// So many bytes instead of those.
    Length { expected: usize, actual: usize },
}

impl StoredBlocksError {
    /// The error of the tensor `name`.
    pub(super) fn of_tensor(self, name: &str) -> FormatError {
        let name = name.to_owned();
        match self {
            Self::Shape(actual) => {
                let expected = "[out_features, in_features]".into();
                FormatError::Shape { name, actual, expected }
            }
            Self::Blocks { dtype, in_features, block } => {
                FormatError::Blocks { name, dtype, in_features, block }
            }
            Self::Length { expected, actual } => FormatError::Length { name, expected, actual },
        }
    }
}

impl std::fmt::Display for StoredBlocksError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape(shape) => write!(f, "{shape:?} is not [out_features, in_features]"),
            Self::Blocks { dtype, in_features, block } => write!(
                f,
                "rows of {in_features} are no multiple of the {block} elements of a {dtype} block"
            ),
            Self::Length { expected, actual } => {
                write!(f, "{actual} bytes of blocks instead of {expected}")
            }
        }
    }
}

impl StoredBlocks {
    /// The matrix whose rows are those of `tensors`, one after the other; `None` where one of them does
    /// not consist of blocks, or where no format holds all of their types without loss.
    ///
    /// # Errors
    /// [`StoredBlocksError`].
    pub(crate) fn new(tensors: &[StoredTensor]) -> Result<Option<Self>, StoredBlocksError> {
        let mut parts = Vec::new();
        let (mut rows, mut columns) = (0, None);
        for StoredTensor { dtype, shape, parts: bytes } in tensors {
            let Some(kind) = BlockType::of(dtype) else { return Ok(None) };
            let [n, k] = shape[..] else { return Err(StoredBlocksError::Shape(shape.clone())) };
            if *columns.get_or_insert(k) != k {
                return Err(StoredBlocksError::Shape(shape.clone()));
            }
            if !k.is_multiple_of(kind.elements) {
                let (dtype, block) = (dtype.clone(), kind.elements);
                return Err(StoredBlocksError::Blocks { dtype, in_features: k, block });
            }
            let row_bytes = k / kind.elements * kind.bytes;
            let expected = n.saturating_mul(row_bytes);
            let actual = bytes.iter().map(|part| part.len()).sum();
            if actual != expected || bytes.iter().any(|part| part.len() % row_bytes.max(1) != 0) {
                return Err(StoredBlocksError::Length { expected, actual });
            }
            for bytes in bytes {
                let end = rows + bytes.len() / row_bytes.max(1);
                parts.push(Part { kind, rows: rows..end, bytes: bytes.clone() });
                rows = end;
            }
        }
        let (Some(columns), Some(scheme)) = (columns, common(&parts)) else { return Ok(None) };
        Ok(Some(Self { shape: [rows, columns], scheme, parts }))
    }

    /// `[N, K]`.
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// How the matrix is quantized.
    pub(crate) fn scheme(&self) -> QuantizedScheme {
        self.scheme
    }

    /// The rows `rows` in plain order.
    pub(crate) fn rows(&self, rows: Range<usize>) -> QuantizedMatrix {
        let k = self.shape[1];
        let matrix = |(part, bytes): (&Part, &[u8])| {
            in_scheme(unpack_rows(&part.kind, bytes, k), &part.kind, &self.scheme.weight)
        };
        let stacked = self.under(rows).map(matrix).reduce(stack);
        stacked.unwrap_or_else(|| matrix((&self.parts[0], &[])))
    }

    /// The bytes under the rows `rows`, part by part.
    pub(crate) fn bytes_of(&self, rows: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.under(rows).map(|(_, bytes)| bytes)
    }

    /// The parts that the rows `rows` lie in, and the bytes under those.
    fn under(&self, rows: Range<usize>) -> impl Iterator<Item = (&Part, &[u8])> {
        self.parts.iter().filter_map(move |part| {
            let (start, end) = (rows.start.max(part.rows.start), rows.end.min(part.rows.end));
            let row_bytes = self.shape[1] / part.kind.elements * part.kind.bytes;
            let first = part.rows.start;
            (start < end).then(|| {
                (part, &part.bytes[(start - first) * row_bytes..(end - first) * row_bytes])
            })
        })
    }
}

/// The rows of `first`, then those of `second`, which has the same format.
fn stack(mut first: QuantizedMatrix, second: QuantizedMatrix) -> QuantizedMatrix {
    first.shape[0] += second.shape[0];
    first.codes.extend(second.codes);
    first.scales.extend(second.scales);
    if let (Some(first), Some(second)) = (&mut first.minimums, second.minimums) {
        first.extend(second);
    }
    first
}

/// The scheme that holds all parts without loss. Of several types it has the more bits, the shorter
/// groups, minimums where one has them, and scales in f32.
fn common(parts: &[Part]) -> Option<QuantizedScheme> {
    let first = parts.first()?.kind;
    if parts.iter().all(|part| part.kind.scheme() == first.scheme()) {
        return Some(first.scheme());
    }
    let any = |is: fn(&BlockType) -> bool| parts.iter().any(|part| is(&part.kind));
    let has_minimums = any(|kind| kind.has_minimums);
    if has_minimums && any(|kind| !kind.can_have_minimum) {
        return None;
    }
    let bits = if any(|kind| kind.bits == WeightBits::Eight) {
        WeightBits::Eight
    } else {
        WeightBits::Four
    };
    let group_size = parts.iter().map(|part| part.kind.group_size).min()?;
    Some(QuantizedScheme {
        weight: WeightScheme {
            bits,
            granularity: Granularity::PerGroup(group_size),
            symmetric: !has_minimums,
            scale_dtype: ScaleDtype::F32,
        },
        ..first.scheme()
    })
}

/// `matrix`, of blocks of the type `kind`, with the bits, groups and minimums of `scheme`.
///
/// Values stay as they are to the bit: a product of code and scale, and its sum with the minimum that
/// stands for a symmetric type's zero, has no more bits than f32 holds.
fn in_scheme(
    mut matrix: QuantizedMatrix,
    kind: &BlockType,
    scheme: &WeightScheme,
) -> QuantizedMatrix {
    let group_size = scheme.group_size(matrix.shape[1]);
    let repeat = matrix.group_size / group_size.max(1);
    if repeat > 1 {
        matrix.scales = spread(&matrix.scales, repeat);
        matrix.minimums = matrix.minimums.map(|minimums| spread(&minimums, repeat));
        matrix.group_size = group_size;
    }
    if !scheme.symmetric && matrix.minimums.is_none() {
        let zero = f32::from(kind.bits.offset() - kind.smallest);
        matrix.codes.iter_mut().for_each(|code| *code -= kind.smallest);
        matrix.minimums = Some(matrix.scales.iter().map(|scale| -zero * scale).collect());
    } else if scheme.symmetric && matrix.bits != scheme.bits {
        let more = scheme.bits.offset() - kind.bits.offset();
        matrix.codes.iter_mut().for_each(|code| *code += more);
    }
    matrix.bits = scheme.bits;
    matrix
}

/// Each value `repeat` times.
fn spread(values: &[f32], repeat: usize) -> Vec<f32> {
    values.iter().flat_map(|&value| std::iter::repeat_n(value, repeat)).collect()
}
