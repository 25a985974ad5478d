//! `FormatError`: why another program's quantized tensors could not be read or written.

use lightglm_core::WeightError;
use lightglm_kernels::PackingError;

use crate::QuantError;

/// Why another program's quantized tensors could not be read or written; each names the tensor or
/// the field.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The checkpoint is at fault.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A layer could not be quantized.
    #[error(transparent)]
    Quantize(#[from] QuantError),
    /// The parts of a tensor do not make a matrix.
    #[error("`{name}`: {source}")]
    Matrix {
        /// The tensor's name, or the layer's.
        name: String,
        /// What does not fit.
        source: PackingError,
    },
    /// A tensor has an element type that is not one of the format's.
    #[error("`{name}` is stored as {dtype}, expected {expected}")]
    Dtype {
        /// The tensor's name.
        name: String,
        /// The dtype as the file spells it.
        dtype: String,
        /// What would do.
        expected: &'static str,
    },
    /// A tensor has another shape than its format or its neighbours ask for.
    #[error("`{name}` has shape {actual:?}, expected {expected}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// The shape in the file.
        actual: Vec<usize>,
        /// What would do, in words or numbers.
        expected: String,
    },
    /// A row of a block-quantized tensor does not end where a block ends.
    #[error(
        "`{name}`: rows of {in_features} are no multiple of the {block} elements of a {dtype} block"
    )]
    Blocks {
        /// The tensor's name.
        name: String,
        /// The block type.
        dtype: String,
        /// Columns of the tensor.
        in_features: usize,
        /// Elements of a block.
        block: usize,
    },
    /// A tensor has another number of bytes than its shape asks for.
    #[error("`{name}` has {actual} bytes, its shape asks for {expected}")]
    Length {
        /// The tensor's name.
        name: String,
        /// Bytes that follow from shape and dtype.
        expected: usize,
        /// Bytes that are there.
        actual: usize,
    },
    /// A configuration is no JSON, or not an object.
    #[error("not a JSON object: {reason}")]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// A field of the configuration is missing.
    #[error("`{field}` is missing")]
    MissingField {
        /// The field's path: `quantization_config.config_groups.group_0.weights.group_size`.
        field: String,
    },
    /// A field of the configuration has a value that makes no sense there.
    #[error("`{field}` is {value}, expected {expected}")]
    Field {
        /// The field's path.
        field: String,
        /// The value as JSON.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// A field of the configuration asks for something that is not implemented here.
    #[error("`{field}` is {value}, which is not supported ({supported} is)")]
    Unsupported {
        /// The field's path.
        field: String,
        /// The value as JSON.
        value: String,
        /// What is.
        supported: &'static str,
    },
    /// No group of the configuration targets a layer whose tensors are quantized.
    #[error("`{name}` is quantized, but no group of the configuration targets it")]
    NoGroup {
        /// The layer's name, without `.weight`.
        name: String,
    },
    /// The columns were permuted by activation order (`g_idx`), which no kernel here undoes.
    #[error("`{name}`: columns in activation order (g_idx) are not supported")]
    ActivationOrder {
        /// The tensor that says so.
        name: String,
    },
    /// Zero points where the configuration says that there are none.
    #[error("`{name}` has zero points that are not in the middle, but its layer is symmetric")]
    UnexpectedZeroPoints {
        /// The tensor's name.
        name: String,
    },
    /// Two layers of the file are one of the decoder's, and are not quantized alike.
    #[error("`{name}`: its two halves in the file, gate_proj and up_proj, are not quantized alike")]
    Halves {
        /// The decoder's name of the layer, without `.weight`.
        name: String,
    },
    /// A matrix is not quantized as the export's scheme says.
    #[error("`{name}`: the matrix has {part} {actual}, the scheme says {expected}")]
    Scheme {
        /// The layer's name, without `.weight`.
        name: String,
        /// `shape`, `bits`, `group_size` or `minimums`.
        part: &'static str,
        /// What the matrix has.
        actual: String,
        /// What the scheme says.
        expected: String,
    },
    /// A minimum that is no whole multiple of its scale, so that no zero point stands for it.
    #[error("`{name}`: the minimum {minimum} of row {row} is no code times the scale {scale}")]
    Minimum {
        /// The layer's name, without `.weight`.
        name: String,
        /// Row of the group.
        row: usize,
        /// Its minimum.
        minimum: f32,
        /// Its scale.
        scale: f32,
    },
    /// A scale that the chosen precision would round.
    #[error("`{name}`: the scale {scale} of row {row} has no exact value in {dtype}")]
    InexactScale {
        /// The layer's name, without `.weight`.
        name: String,
        /// Row of the group.
        row: usize,
        /// Its scale.
        scale: f32,
        /// The precision asked for.
        dtype: &'static str,
    },
}
