//! `GgufCheckpoint`: a GGUF file as a weight source with Hugging Face's names.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use lightglm_core::{
    ProjectionLayout, StoredTensor, TensorView, WeightDtype, WeightError, WeightSource,
};

use super::config::Keys;
use super::dequantize::dequantize;
use super::file::{GgufFile, GgufTensor};
use super::names::{Architecture, Origin, translate};
use super::sampling;
use super::vocabulary::read_vocabulary;
use crate::config::{ConfigError, GenerationConfig, GlmConfig};
use lightglm_text::GgufVocabulary;

/// A GGUF file of the architecture `llama`, `qwen2`, `qwen3`, `glm4` or `chatglm` under the names of the
/// GLM decoder.
///
/// f32, f16 and bf16 tensors that the file stores as the decoder wants them are views of the mapping;
/// the others are dequantized to f32 at each call of `tensor`. Gate and up projections that the file
/// keeps apart become one, gate's rows first; a fused query-key-value projection becomes three. Rows of q
/// and k come in the order in which the decoder rotates them.
#[derive(Clone, Debug)]
pub struct GgufCheckpoint {
    file: GgufFile,
    origins: BTreeMap<String, Origin>,
    /// Of the file's rows.
    layout: ProjectionLayout,
}

/// A tensor under its Hugging Face name: the parts it is stacked from, and its shape.
type Assembly = (Vec<Part>, Vec<usize>);

/// Rows of one tensor of the file.
struct Part {
    tensor: GgufTensor,
    /// Of all rows, or of each where they stand in another order than in the file.
    bytes: Vec<Bytes>,
}

impl GgufCheckpoint {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// As [`GgufFile::open`]. Whether the architecture is a supported one is said by
    /// [`GgufCheckpoint::config`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightError> {
        Ok(Self::new(GgufFile::open(path)?))
    }

    /// The checkpoint in a file that has been parsed already.
    pub fn new(file: GgufFile) -> Self {
        let keys = Keys::new(&file).ok();
        let qkv = keys.as_ref().and_then(Keys::qkv_rows);
        let layout = keys.map_or(ProjectionLayout::Glm, |keys| keys.layout());
        let origins = translate(&file, qkv);
        Self { file, origins, layout }
    }

    /// The file with its own names and keys.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// The configuration in the file's metadata.
    ///
    /// # Errors
    /// [`ConfigError`] with the key as the file spells it; where values contradict each other, as
    /// `config.json` spells it.
    pub fn config(&self) -> Result<GlmConfig, ConfigError> {
        Keys::new(&self.file)?.config()
    }

    /// How the model is sampled, as `general.sampling.*` says.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that is not possible.
    pub fn generation_config(&self) -> Result<GenerationConfig, ConfigError> {
        sampling::generation_config(&self.file)
    }

    /// How adapters that are made for the model lay out its projections: the Llama family's have its other
    /// files' order of rows.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub fn adapter_layout(&self) -> Result<ProjectionLayout, ConfigError> {
        Ok(match Keys::new(&self.file)?.architecture {
            Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => {
                ProjectionLayout::Llama { head_dim: self.config()?.head_dim }
            }
            Architecture::Glm4 | Architecture::ChatGlm => ProjectionLayout::Glm,
        })
    }

    /// The tokenizer in the file's metadata.
    ///
    /// # Errors
    /// [`WeightError::Malformed`] where there is none, or one that contradicts itself.
    pub fn vocabulary(&self) -> Result<GgufVocabulary, WeightError> {
        read_vocabulary(&self.file)
    }

    fn part(&self, name: &str) -> Option<Part> {
        let tensor = self.file.tensors().get(name)?.clone();
        Some(Part { tensor, bytes: vec![self.file.tensor_bytes(name)?] })
    }

    fn assembly(&self, name: &str) -> Result<Assembly, WeightError> {
        let file = || self.file.path().to_path_buf();
        match self.parts(name) {
            Ok(Some(assembly)) => Ok(assembly),
            Ok(None) => Err(WeightError::Missing { file: file(), name: name.into() }),
            Err(reason) => Err(WeightError::Malformed { file: file(), format: "GGUF", reason }),
        }
    }

    /// The parts that the tensor `name` is stacked from, and its shape.
    ///
    /// `Ok(None)` is an unknown name; an error says why the parts do not fit.
    fn parts(&self, name: &str) -> Result<Option<Assembly>, String> {
        let Some((parts, shape)) = self.parts_in_file_order(name)? else { return Ok(None) };
        let projection = name.rsplit_once('.').map_or(name, |(projection, _)| projection);
        if !self.layout.reorders(projection) {
            return Ok(Some((parts, shape)));
        }
        let reordered = |part: Part| {
            let shape = part.tensor.shape.clone();
            part.reordered(self.layout, projection).ok_or_else(|| {
                format!("`{name}` {shape:?} has no heads whose rows could be put in order")
            })
        };
        Ok(Some((parts.into_iter().map(reordered).collect::<Result<_, _>>()?, shape)))
    }

    fn parts_in_file_order(&self, name: &str) -> Result<Option<Assembly>, String> {
        let Some(origin) = self.origins.get(name) else { return Ok(None) };
        let part = |name: &str| self.part(name).ok_or_else(|| format!("`{name}` is gone"));
        match origin {
            Origin::Whole(source) => {
                let part = part(source)?;
                let shape = part.tensor.shape.clone();
                Ok(Some((vec![part], shape)))
            }
            Origin::Rows(source, rows) => {
                let part = part(source)?.rows(rows.clone()).ok_or_else(|| {
                    format!("`{source}` has no rows {rows:?}, which `{name}` should be")
                })?;
                let shape = part.tensor.shape.clone();
                Ok(Some((vec![part], shape)))
            }
            Origin::Stacked(first, second) => {
                let (first, second) = (part(first)?, part(second)?);
                let shape = match (&first.tensor.shape[..], &second.tensor.shape[..]) {
                    ([rows, columns], [more, others]) if columns == others => {
                        rows.checked_add(*more).map(|rows| vec![rows, *columns])
                    }
                    _ => None,
                };
                let Some(shape) = shape else {
                    let (a, b) = (&first.tensor.shape, &second.tensor.shape);
                    return Err(format!("`{name}` cannot be stacked from {a:?} and {b:?}"));
                };
                Ok(Some((vec![first, second], shape)))
            }
        }
    }
}

impl Part {
    /// Some of the rows; `None` where there are no such rows.
    fn rows(mut self, rows: std::ops::Range<usize>) -> Option<Self> {
        if self.tensor.shape.len() == 1 && self.tensor.ggml_type.plain_dtype().is_none() {
            // A vector's blocks lie across its rows.
            return None;
        }
        let first = self.tensor.shape.first_mut()?;
        if rows.end > *first || *first == 0 {
            return None;
        }
        let [bytes] = &self.bytes[..] else { return None };
        let row_bytes = bytes.len() / *first;
        *first = rows.len();
        self.bytes = vec![bytes.slice(rows.start * row_bytes..rows.end * row_bytes)];
        Some(self)
    }

    /// The rows of `projection` as the decoder orders them; `None` where they make no whole heads.
    fn reordered(self, layout: ProjectionLayout, projection: &str) -> Option<Self> {
        let ProjectionLayout::Llama { head_dim } = layout else { return Some(self) };
        let rows = *self.tensor.shape.first()?;
        if !rows.is_multiple_of(head_dim) {
            return None;
        }
        let (tensor, mut bytes) = (self.tensor.clone(), Vec::with_capacity(rows));
        for row in 0..rows {
            let at = layout.row_in_file(projection, row);
            let one = Self { tensor: tensor.clone(), bytes: self.bytes.clone() };
            bytes.extend(one.rows(at..at + 1)?.bytes);
        }
        Some(Self { tensor, bytes })
    }

    fn elements(&self) -> usize {
        self.tensor.shape.iter().product()
    }
}

impl WeightSource for GgufCheckpoint {
    fn names(&self) -> Vec<String> {
        self.origins.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.parts(name).ok()?.map(|(_, shape)| shape)
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let (parts, shape) = self.assembly(name)?;
        let dtype = parts[0].tensor.ggml_type.plain_dtype();
        let alike = parts.iter().all(|part| part.tensor.ggml_type.plain_dtype() == dtype);
        if let Some(dtype) = dtype.filter(|_| alike) {
            let runs: Vec<&Bytes> = parts.iter().flat_map(|part| &part.bytes).collect();
            let bytes = match &runs[..] {
                [one] => Bytes::clone(one),
                many => Bytes::from(many.iter().map(|run| &run[..]).collect::<Vec<_>>().concat()),
            };
            return Ok(TensorView { dtype, shape, bytes });
        }
        let mut values = vec![0f32; shape.iter().product()];
        let mut rest = &mut values[..];
        for part in &parts {
            for bytes in &part.bytes {
                let (out, others) = rest.split_at_mut(part.elements() / part.bytes.len());
                dequantize(part.tensor.ggml_type, bytes, out);
                // The blocks would count as memory beside the numbers made of them.
                lightglm_kernels::page_out(bytes);
                rest = others;
            }
        }
        Ok(TensorView { dtype: WeightDtype::F32, shape, bytes: to_le_bytes(values) })
    }

    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        let (parts, _) = self.assembly(name)?;
        let stored = |part: Part| StoredTensor {
            dtype: part.tensor.ggml_type.name().to_owned(),
            shape: part.tensor.shape,
            parts: part.bytes,
        };
        Ok(parts.into_iter().map(stored).collect())
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        let (parts, shape) = self.assembly(name)?;
        let ggml_type = parts[0].tensor.ggml_type;
        match parts.iter().find(|part| part.tensor.ggml_type != ggml_type) {
            Some(other) => Err(WeightError::UnsupportedDtype {
                file: self.file.path().into(),
                name: name.into(),
                dtype: format!("{} above {}", ggml_type.name(), other.tensor.ggml_type.name()),
            }),
            None => Ok(StoredTensor {
                dtype: ggml_type.name().to_owned(),
                shape,
                parts: parts.into_iter().flat_map(|part| part.bytes).collect(),
            }),
        }
    }
}

/// The values as little-endian bytes, without a copy where the machine is little-endian.
fn to_le_bytes(values: Vec<f32>) -> Bytes {
    /// Owns the values behind a [`Bytes`].
    struct Owner(Vec<f32>);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }

    let values = if cfg!(target_endian = "big") {
        values.into_iter().map(|value| f32::from_bits(value.to_bits().swap_bytes())).collect()
    } else {
        values
    };
    Bytes::from_owner(Owner(values))
}
