//! `WeightSource`: named tensors, wherever they lie.

use std::path::{Path, PathBuf};

use bytes::Bytes;

/// Element type of a stored weight that a kernel can read as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightDtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl WeightDtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The name the safetensors header uses: `F32`, `F16` or `BF16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }
}

/// A tensor's dtype, shape and little-endian row-major bytes.
///
/// `bytes` shares the mapped file where the file stores the tensor in this very form; cloning is
/// free and keeps the mapping alive.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// Element type of `bytes`.
    pub dtype: WeightDtype,
    /// Dimensions, outermost first; a projection is `[out_features, in_features]`.
    pub shape: Vec<usize>,
    /// `shape.product() * dtype.size()` bytes.
    pub bytes: Bytes,
}

/// A tensor exactly as a file stores it, whatever its element type.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// The element or block type as the format spells it: `I8`, `I32`, `BF16`, `Q8_0`, `Q4_K`.
    pub dtype: String,
    /// Dimensions in elements, outermost first; a projection is `[out_features, in_features]`.
    pub shape: Vec<usize>,
    /// The bytes; more than one part where the tensor is stacked by rows from several of the file.
    pub parts: Vec<Bytes>,
}

/// A checkpoint: tensors by their Hugging Face names (`model.layers.0.mlp.down_proj.weight`).
///
/// Sources whose file uses other names or other fusions (GGUF) translate, so that the loader knows
/// one vocabulary. A view is handed out without reading the tensor where the file allows it.
pub trait WeightSource {
    /// All tensor names in the source, sorted.
    fn names(&self) -> Vec<String>;

    /// The shape of tensor `name`, or `None` where the source has no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// The tensor `name`, in the precision it is stored in (block-quantized formats come
    /// dequantized to f32).
    ///
    /// # Errors
    /// [`WeightError::Missing`] for an unknown name; otherwise what is wrong with the file.
    fn tensor(&self, name: &str) -> Result<TensorView, WeightError>;

    /// The tensor `name` as it is stored, also in types that no kernel reads as they are.
    ///
    /// Parts of one dtype each: a source that would have to stack rows of different types says
    /// [`WeightError::UnsupportedDtype`].
    ///
    /// # Errors
    /// As [`Self::tensor`].
    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        let TensorView { dtype, shape, bytes } = self.tensor(name)?;
        Ok(StoredTensor { dtype: dtype.name().to_owned(), shape, parts: vec![bytes] })
    }

    /// The tensor `name` as it is stored, stacked by rows from tensors of possibly different types: one
    /// for each, in the order of the rows.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        Ok(vec![self.stored(name)?])
    }

    /// The free-form text that the file keeps under `key`, if any.
    fn metadata(&self, _key: &str) -> Option<String> {
        None
    }
}

/// The tensor `name` of `source`, after checking that it has `shape` and as many bytes as that asks for.
///
/// # Errors
/// As [`WeightSource::tensor`], and [`WeightError::ShapeMismatch`]; both name `file`.
pub fn checked_tensor(
    source: &dyn WeightSource,
    file: &Path,
    name: &str,
    shape: &[usize],
) -> Result<TensorView, WeightError> {
    let Some(actual) = source.shape(name) else {
        return Err(WeightError::Missing { file: file.to_owned(), name: name.to_owned() });
    };
    if actual != shape {
        let (file, name, expected) = (file.to_owned(), name.to_owned(), shape.to_vec());
        return Err(WeightError::ShapeMismatch { file, name, expected, actual });
    }
    let view = source.tensor(name)?;
    let elements = shape.iter().product::<usize>();
    if view.shape != shape || view.bytes.len() != elements * view.dtype.size() {
        return Err(WeightError::Malformed {
            file: file.to_owned(),
            format: "tensor view",
            reason: format!("`{name}` has shape {:?} and {} bytes", view.shape, view.bytes.len()),
        });
    }
    Ok(view)
}

/// The metadata key under which a quantized checkpoint says how its tensors are packed.
pub const QUANTIZATION_KEY: &str = "lightglm.quantization";

/// What can be wrong with a checkpoint; each variant names the file and the tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// The file could not be opened, mapped or read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file's header contradicts itself or the file's length.
    #[error("{}: malformed {format}: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// `safetensors`, `safetensors index`, `GGUF`, `Llama checkpoint`, or `tensor view` for a source
        /// that breaks its own promise.
        format: &'static str,
        /// What contradicts what, with the numbers.
        reason: String,
    },
    /// A tensor the configuration asks for is not there.
    #[error("{}: tensor `{name}` is missing", file.display())]
    Missing {
        /// The checkpoint (file or folder).
        file: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// A tensor the configuration asks for is there under a longer name.
    #[error(
        "{}: tensor `{name}` is missing; there is `{found}`, so this may be a part of a larger model, whose \
         tensors have to be called without what stands in front",
        file.display()
    )]
    Prefixed {
        /// The checkpoint (file or folder).
        file: PathBuf,
        /// The tensor's name.
        name: String,
        /// What it is called.
        found: String,
    },
    /// Tensors the configuration has no use for.
    #[error("{}: {} unexpected tensors, the first is `{}`", file.display(), names.len(), names[0])]
    Unexpected {
        /// The checkpoint (file or folder).
        file: PathBuf,
        /// Their names, at least one.
        names: Vec<String>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{name}` has shape {actual:?}, the configuration says {expected:?}", file.display())]
    ShapeMismatch {
        /// The checkpoint (file or folder).
        file: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        actual: Vec<usize>,
    },
    /// A tensor is stored in an element type that is not a weight precision we read.
    #[error("{}: tensor `{name}` has unsupported dtype {dtype}", file.display())]
    UnsupportedDtype {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        name: String,
        /// The dtype as the file spells it.
        dtype: String,
    },
    /// The checkpoint is quantized and was to be read as a dense one.
    #[error("{}: the checkpoint is quantized (`lightglm.quantization` in its metadata): it has packed layers, no dense ones", file.display())]
    Quantized {
        /// The checkpoint (file or folder).
        file: PathBuf,
    },
    /// An index names a shard outside of the checkpoint's folder.
    #[error("{}: tensor `{name}` points at shard `{shard}`, which is not a plain file name", file.display())]
    ShardEscapes {
        /// The index file.
        file: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shard as the index spells it.
        shard: String,
    },
}

impl WeightError {
    /// For a tensor `name` that is not among `names`: [`WeightError::Missing`], or
    /// [`WeightError::Prefixed`] where one of them is `name` behind something else.
    pub fn missing(
        file: impl Into<PathBuf>,
        name: &str,
        names: impl IntoIterator<Item = String>,
    ) -> Self {
        let (file, name) = (file.into(), name.to_owned());
        let ending = format!(".{name}");
        match names.into_iter().find(|other| other.ends_with(&ending)) {
            Some(found) => Self::Prefixed { file, name, found },
            None => Self::Missing { file, name },
        }
    }
}
