//! `SlicedWeights`: a checkpoint of which a slice is left.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use half::{bf16, f16};
use lightglm_core::{TensorView, WeightDtype, WeightError, WeightSource, checked_tensor};

use super::tensor_axes::{Axis, tensor_axes};
use super::{Slice, StudentError, StudentShape};

/// What older checkpoints carry and no model reads.
const UNREAD: [&str; 2] = ["rotary_emb.inv_freq", "position_ids"];

/// A checkpoint of which a [`Slice`] is left: tensors under the student's names, in the precision that they have.
///
/// It reads GLM's layout (`gate_up_proj`) and Llama's (`gate_proj`, `up_proj`), biases, norms of heads and a head that
/// is tied (or stored beside the table all the same), and gives the layout that it reads. What is kept is copied bit by
/// bit, but for norms with a scale.
pub struct SlicedWeights<'a> {
    source: &'a dyn WeightSource,
    /// What errors call it.
    file: PathBuf,
    teacher: StudentShape,
    student: StudentShape,
    slice: &'a Slice,
    /// The source's names by the student's.
    origins: BTreeMap<String, String>,
    norm_scales: BTreeMap<String, f64>,
}

impl<'a> SlicedWeights<'a> {
    /// What `slice` leaves of `source`, which errors call `file`, and which has the shape `teacher`.
    ///
    /// # Errors
    /// As [`Slice::check`]; [`WeightError::Unexpected`] for tensors that are none of such a decoder,
    /// [`WeightError::ShapeMismatch`] for those of another shape.
    pub fn new(
        source: &'a dyn WeightSource,
        file: &Path,
        teacher: StudentShape,
        slice: &'a Slice,
    ) -> Result<Self, StudentError> {
        let student = slice.check(&teacher)?;
        let mut unknown = Vec::new();
        let mut origins = BTreeMap::new();
        for name in source.names() {
            if UNREAD.iter().any(|unread| name.ends_with(unread)) {
                continue;
            }
            let Some(tensor) = tensor_axes(&name) else {
                unknown.push(name);
                continue;
            };
            let expected: Vec<usize> =
                tensor.axes.iter().map(|axis| axis_size(*axis, &teacher)).collect();
            let actual = source.shape(&name).unwrap_or_default();
            if actual != expected {
                let file = file.to_owned();
                return Err(WeightError::ShapeMismatch { file, name, expected, actual }.into());
            }
            match tensor.block {
                None => drop(origins.insert(name.clone(), name)),
                Some((layer, part)) => {
                    if let Ok(index) = slice.layers.binary_search(&layer) {
                        origins.insert(format!("model.layers.{index}.{part}"), name);
                    }
                }
            }
        }
        if !unknown.is_empty() {
            return Err(WeightError::Unexpected { file: file.to_owned(), names: unknown }.into());
        }
        let (file, norm_scales) = (file.to_owned(), BTreeMap::new());
        Ok(Self { source, file, teacher, student, slice, origins, norm_scales })
    }

    /// Multiplies the weights of norms, by the teacher's names without `.weight`, by `scales`
    /// ([`Importance::norm_scales`](super::Importance::norm_scales)).
    pub fn with_norm_scales(self, norm_scales: BTreeMap<String, f64>) -> Self {
        Self { norm_scales, ..self }
    }

    /// The shape of the student.
    pub fn student(&self) -> &StudentShape {
        &self.student
    }

    /// The precision of the tensor `name`.
    ///
    /// # Errors
    /// As [`WeightSource::tensor`].
    pub fn dtype(&self, name: &str) -> Result<WeightDtype, WeightError> {
        Ok(self.source.tensor(self.origin(name)?)?.dtype)
    }

    fn origin(&self, name: &str) -> Result<&str, WeightError> {
        let missing = || WeightError::Missing { file: self.file.clone(), name: name.to_owned() };
        self.origins.get(name).map(String::as_str).ok_or_else(missing)
    }

    /// The indices that are kept along `axis` of a tensor of the student's block `index`; `None` for all of them.
    fn kept(&self, axis: Axis, index: Option<usize>) -> Option<Cow<'_, [usize]>> {
        let (slice, shape) = (self.slice, &self.teacher);
        let of_heads = |heads: &[usize]| -> Vec<usize> {
            let elements = |head: &usize| head * shape.head_dim..(head + 1) * shape.head_dim;
            heads.iter().flat_map(elements).collect()
        };
        let kept: Cow<'_, [usize]> = match (axis, index) {
            (Axis::Vocabulary, _) => Cow::Borrowed(&slice.vocabulary),
            (Axis::Hidden, _) => Cow::Borrowed(&slice.hidden),
            (Axis::Neurons, Some(index)) => Cow::Borrowed(&slice.ffn[index]),
            (Axis::GatesAndUps, Some(index)) => {
                let gates = &slice.ffn[index];
                let ups = gates.iter().map(|neuron| shape.intermediate_size + neuron);
                Cow::Owned(gates.iter().copied().chain(ups).collect())
            }
            (Axis::Queries, Some(index)) => Cow::Owned(of_heads(&slice.heads[index])),
            (Axis::KeysOrValues, Some(index)) => {
                Cow::Owned(of_heads(&slice.key_value_heads(index, shape.heads_per_group())))
            }
            (Axis::HeadElements, _) | (_, None) => return None,
        };
        (kept.len() < axis_size(axis, shape)).then_some(kept)
    }

    fn kept_axes(&self, name: &str) -> Option<Vec<Option<Cow<'_, [usize]>>>> {
        let tensor = tensor_axes(name)?;
        let index = tensor.block.map(|(index, _)| index);
        Some(tensor.axes.iter().map(|axis| self.kept(*axis, index)).collect())
    }
}

/// How many elements `axis` has in a decoder of `shape`.
fn axis_size(axis: Axis, shape: &StudentShape) -> usize {
    match axis {
        Axis::Vocabulary => shape.vocab_size,
        Axis::Hidden => shape.hidden_size,
        Axis::Neurons => shape.intermediate_size,
        Axis::GatesAndUps => 2 * shape.intermediate_size,
        Axis::Queries => shape.num_attention_heads * shape.head_dim,
        Axis::KeysOrValues => shape.num_key_value_heads * shape.head_dim,
        Axis::HeadElements => shape.head_dim,
    }
}

impl WeightSource for SlicedWeights<'_> {
    fn names(&self) -> Vec<String> {
        self.origins.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let shape = self.source.shape(self.origins.get(name)?)?;
        let kept = self.kept_axes(name)?;
        let sizes = shape.into_iter().zip(kept);
        Some(sizes.map(|(size, kept)| kept.map_or(size, |kept| kept.len())).collect())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let origin = self.origin(name)?;
        let shape = self.source.shape(origin).unwrap_or_default();
        let mut view = checked_tensor(self.source, &self.file, origin, &shape)?;
        let kept = self.kept_axes(name).unwrap_or_default();
        let columns = kept.get(1).cloned().flatten();
        let rows = kept.first().cloned().flatten();
        if rows.is_some() || columns.is_some() {
            view = select(&view, rows.as_deref(), columns.as_deref());
        }
        let scale = origin.strip_suffix(".weight").and_then(|norm| self.norm_scales.get(norm));
        Ok(match scale {
            Some(&scale) if scale != 1.0 => scaled(&view, scale),
            _ => view,
        })
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.source.metadata(key)
    }
}

/// The `rows` and `columns` of a matrix, or the `rows` of a vector; `None` for all of them.
fn select(view: &TensorView, rows: Option<&[usize]>, columns: Option<&[usize]>) -> TensorView {
    let size = view.dtype.size();
    let width = view.shape.get(1).copied().unwrap_or(1) * size;
    let mut shape = view.shape.clone();
    if let Some(rows) = rows {
        shape[0] = rows.len();
    }
    if let Some(columns) = columns {
        shape[1] = columns.len();
    }
    let mut bytes = Vec::with_capacity(shape.iter().product::<usize>() * size);
    let mut push = |row: usize| {
        let row = &view.bytes[row * width..(row + 1) * width];
        match columns {
            None => bytes.extend_from_slice(row),
            Some(columns) => {
                for column in columns {
                    bytes.extend_from_slice(&row[column * size..(column + 1) * size]);
                }
            }
        }
    };
    match rows {
        Some(rows) => rows.iter().for_each(|&row| push(row)),
        None => (0..view.shape[0]).for_each(&mut push),
    }
    TensorView { dtype: view.dtype, shape, bytes: Bytes::from(bytes) }
}

/// `view` times `scale`, rounded once.
fn scaled(view: &TensorView, scale: f64) -> TensorView {
    let half = |bytes: &[u8]| [bytes[0], bytes[1]];
    let elements = view.bytes.chunks_exact(view.dtype.size());
    let bytes: Vec<u8> = match view.dtype {
        WeightDtype::F32 => elements
            .flat_map(|x| {
                let x = f32::from_le_bytes([x[0], x[1], x[2], x[3]]);
                ((f64::from(x) * scale) as f32).to_le_bytes()
            })
            .collect(),
        WeightDtype::F16 => elements
            .flat_map(|x| {
                let x = f16::from_le_bytes(half(x)).to_f64();
                f16::from_f64(x * scale).to_le_bytes()
            })
            .collect(),
        WeightDtype::Bf16 => elements
            .flat_map(|x| {
                let x = bf16::from_le_bytes(half(x)).to_f64();
                bf16::from_f64(x * scale).to_le_bytes()
            })
            .collect(),
    };
    TensorView { dtype: view.dtype, shape: view.shape.clone(), bytes: Bytes::from(bytes) }
}
