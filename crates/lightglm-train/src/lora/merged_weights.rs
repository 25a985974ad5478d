//! `MergedWeights`: a checkpoint with an adapter added to its weights, tensor by tensor.
//!
//! Shapes: `N` out_features, `K` in_features.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use lightglm_core::{
    ProjectionLayout, StoredTensor, TensorView, WeightDtype, WeightError, WeightSource,
};
use rayon::prelude::*;

use super::elements::{converted, round_into, to_f32};
use super::{EMBEDDING, HEAD, Lora, LowRank};

/// The dtype that a merged tensor gets, of its name and of the one that the checkpoint stores it in.
type Rounding<'a> = dyn Fn(&str, WeightDtype) -> WeightDtype + 'a;

/// `base` with the adapter `lora` in it: what the adapter saved whole stands in place of the base's tensors,
/// and `W + scale B A` in place of the others that it touches.
///
/// The sum is made in f32, and rounded once, when a tensor is asked for; no more than one is ever held. What the
/// adapter does not touch is the base's, to the bit.
pub struct MergedWeights<'a> {
    base: &'a dyn WeightSource,
    lora: &'a Lora,
    layout: ProjectionLayout,
    tied: bool,
    rounding: &'a Rounding<'a>,
    /// The precision of every matrix, of the adapter or not.
    dtype: Option<WeightDtype>,
}

impl fmt::Debug for MergedWeights<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lora, layout, tied, .. } = self;
        f.debug_struct("MergedWeights")
            .field("adapter", &lora.name())
            .field("layout", layout)
            .field("tied", tied)
            .finish_non_exhaustive()
    }
}

/// Keeps the checkpoint's dtype.
fn stored(_: &str, dtype: WeightDtype) -> WeightDtype {
    dtype
}

impl<'a> MergedWeights<'a> {
    /// `base`, whose tensors lie as the decoder has them and whose head is its table where `tied`. Merged
    /// tensors keep the base's precision.
    pub fn new(base: &'a dyn WeightSource, lora: &'a Lora, tied: bool) -> Self {
        Self { base, lora, layout: ProjectionLayout::Glm, tied, rounding: &stored, dtype: None }
    }

    /// For a base with the names and rows of `layout`.
    #[must_use]
    pub fn with_layout(mut self, layout: ProjectionLayout) -> Self {
        self.layout = layout;
        self
    }

    /// With merged tensors in the precision that `rounding` gives for a name and the base's precision.
    #[must_use]
    pub fn with_rounding(mut self, rounding: &'a Rounding<'a>) -> Self {
        self.rounding = rounding;
        self
    }

    /// With every matrix in `dtype`, merged or not, and everything else in f32.
    #[must_use]
    pub fn with_dtype(mut self, dtype: WeightDtype) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The element type of the tensor `name` as files spell it, and its shape, without merging it.
    ///
    /// # Errors
    /// As [`WeightSource::stored`].
    pub fn stored_type(&self, name: &str) -> Result<(String, Vec<usize>), WeightError> {
        let of_base = match self.is_tied_head(name) {
            true => format!("{EMBEDDING}.weight"),
            false => name.to_owned(),
        };
        let StoredTensor { dtype, shape, .. } = self.base.stored(&of_base)?;
        let known = [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16];
        match known.into_iter().find(|known| known.name() == dtype) {
            Some(known) if self.is_merged(name) || self.dtype.is_some() => {
                Ok((self.dtype(name, &shape, known).name().to_owned(), shape))
            }
            _ => Ok((dtype, shape)),
        }
    }

    fn is_tied_head(&self, name: &str) -> bool {
        self.tied && matrix_of(name) == HEAD
    }

    /// The precision of the tensor `name`, of `shape`, that the base has in `dtype`.
    fn dtype(&self, name: &str, shape: &[usize], dtype: WeightDtype) -> WeightDtype {
        match self.dtype {
            Some(of_matrices) if shape.len() == 2 => of_matrices,
            Some(_) => WeightDtype::F32,
            None => (self.rounding)(name, dtype),
        }
    }

    /// Whether the base's tensor `name` is another with the adapter.
    pub fn is_merged(&self, name: &str) -> bool {
        self.origin(name).is_some_and(|origin| {
            self.lora.saved().contains_key(&origin.projection)
                || self.lora.matrices().contains_key(&origin.projection)
        })
    }

    /// Whether a head that is the table of embeddings is one of its own with the adapter.
    pub fn unties(&self) -> bool {
        self.tied && self.lora.unties()
    }

    /// Where the tensor `name` lies in the decoder; `None` for what is no weight.
    fn origin(&self, name: &str) -> Option<Origin> {
        let file = name.strip_suffix(".weight")?;
        let mut origin = Origin { projection: file.to_owned(), rows: Rows::Same };
        let ProjectionLayout::Llama { .. } = self.layout else { return Some(origin) };
        for (half, last) in ["gate_proj", "up_proj"].into_iter().enumerate() {
            if let Some(start) = file.strip_suffix(last) {
                origin.projection = format!("{start}gate_up_proj");
                origin.rows = Rows::Half(half);
            }
        }
        if self.layout.reorders(file) {
            origin.rows = Rows::Reordered;
        }
        Some(origin)
    }

    /// The decoder's row of each of the file's `n` rows.
    fn rows(&self, origin: &Origin, n: usize) -> Vec<usize> {
        match origin.rows {
            Rows::Same => (0..n).collect(),
            Rows::Half(half) => (half * n..(half + 1) * n).collect(),
            Rows::Reordered => {
                let mut rows = vec![0; n];
                for ours in 0..n {
                    rows[self.layout.row_in_file(&origin.projection, ours)] = ours;
                }
                rows
            }
        }
    }

    /// What the base has under `name`; the table where the head is tied.
    fn of_base(&self, name: &str) -> Result<TensorView, WeightError> {
        if self.is_tied_head(name) {
            return self.base.tensor(&format!("{EMBEDDING}.weight"));
        }
        self.base.tensor(name)
    }

    fn add(&self, origin: &Origin, low: &LowRank, view: TensorView, dtype: WeightDtype) -> Bytes {
        let [n, k] = [view.shape[0], view.shape[1]];
        let rows = self.rows(origin, n);
        let mut bytes = vec![0u8; n * k * dtype.size()];
        let row_bytes = (k * view.dtype.size()).max(1);
        let out = bytes.par_chunks_exact_mut((k * dtype.size()).max(1));
        out.zip(view.bytes.par_chunks_exact(row_bytes)).zip(rows).for_each(|((out, row), ours)| {
            let mut values = to_f32(view.dtype, row);
            low.add_row(ours, &mut values);
            round_into(dtype, &values, out);
        });
        lightglm_kernels::page_out(&view.bytes);
        Bytes::from(bytes)
    }
}

fn matrix_of(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// Which part of the decoder a file's tensor is.
struct Origin {
    projection: String,
    rows: Rows,
}

#[derive(Clone, Copy)]
enum Rows {
    Same,
    /// The upper (0) or the lower (1) half.
    Half(usize),
    Reordered,
}

impl WeightSource for MergedWeights<'_> {
    fn names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self.base.names().into_iter().collect();
        if self.unties() {
            names.insert(format!("{HEAD}.weight"));
        }
        names.into_iter().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        if self.unties() && matrix_of(name) == HEAD {
            return self.base.shape(&format!("{EMBEDDING}.weight"));
        }
        self.base.shape(name)
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let origin = self.origin(name).filter(|_| self.is_merged(name));
        let base = self.of_base(name)?;
        let dtype = match (&origin, self.dtype) {
            (None, None) => return Ok(base),
            _ => self.dtype(name, &base.shape, base.dtype),
        };
        let Some(origin) = origin else { return Ok(converted(base, dtype)) };
        let start = match self.lora.saved().get(&origin.projection) {
            Some(saved) => saved.clone(),
            None => base,
        };
        Ok(match self.lora.matrices().get(&origin.projection) {
            None => converted(start, dtype),
            Some(low) => {
                let shape = start.shape.clone();
                let fits = match origin.rows {
                    Rows::Half(_) => shape == [low.shape[0] / 2, low.shape[1]],
                    Rows::Same | Rows::Reordered => shape == low.shape,
                };
                if !fits {
                    return Err(WeightError::Malformed {
                        file: self.lora.name().into(),
                        format: "adapter",
                        reason: format!(
                            "`{name}` is {shape:?}, its adapter is for {:?}",
                            low.shape
                        ),
                    });
                }
                TensorView { dtype, bytes: self.add(&origin, low, start, dtype), shape }
            }
        })
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        if !self.is_tied_head(name) && !self.is_merged(name) {
            return self.base.stored(name);
        }
        let TensorView { dtype, shape, bytes } = self.tensor(name)?;
        Ok(StoredTensor { dtype: dtype.name().to_owned(), shape, parts: vec![bytes] })
    }

    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        if !self.is_tied_head(name) && !self.is_merged(name) {
            return self.base.stored_rows(name);
        }
        Ok(vec![self.stored(name)?])
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.base.metadata(key)
    }
}
