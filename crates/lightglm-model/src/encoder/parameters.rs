//! An encoder's parameters, read from its checkpoint.

use std::path::Path;

use bytes::Bytes;
use half::{bf16, f16};
use lightglm_core::{WeightDtype, WeightError, WeightSource, checked_tensor};
use lightglm_kernels::cpu::{self, Weights};

use crate::decoder::own;

/// A checkpoint whose tensors may have a name in front: `bert.` where a head stands beside the encoder.
pub(super) struct Parameters<'a> {
    source: &'a dyn WeightSource,
    file: &'a Path,
    prefix: &'static str,
}

/// Where an encoder may stand in a model with a head.
const PREFIXES: [&str; 3] = ["", "bert.", "roberta."];

/// A tensor that every encoder has.
const WORDS: &str = "embeddings.word_embeddings.weight";

impl<'a> Parameters<'a> {
    /// Finds out under which name the encoder stands in `source`, which errors call `file`.
    pub(super) fn of(source: &'a dyn WeightSource, file: &'a Path) -> Result<Self, WeightError> {
        let has = |prefix: &&str| source.shape(&format!("{prefix}{WORDS}")).is_some();
        match PREFIXES.into_iter().find(has) {
            Some(prefix) => Ok(Self { source, file, prefix }),
            None => Err(WeightError::missing(file, WORDS, source.names())),
        }
    }

    /// The same checkpoint with the names as they are.
    pub(super) fn beside(&self) -> Self {
        Self { prefix: "", ..*self }
    }

    /// The tensors of `source` under their own names.
    pub(super) fn plain(source: &'a dyn WeightSource, file: &'a Path) -> Self {
        Self { source, file, prefix: "" }
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.source.shape(&format!("{}{name}", self.prefix)).is_some()
    }

    /// A matrix.
    pub(super) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Matrix, WeightError> {
        let name = format!("{}{name}", self.prefix);
        let view = checked_tensor(self.source, self.file, &name, &shape)?;
        let bytes = match view.bytes.as_ptr().addr().is_multiple_of(view.dtype.size()) {
            true => view.bytes,
            false => aligned(view.dtype, &view.bytes),
        };
        Ok(Matrix { dtype: view.dtype, bytes, columns: shape[1] })
    }

    /// A vector, as f32.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, WeightError> {
        let name = format!("{}{name}", self.prefix);
        let view = checked_tensor(self.source, self.file, &name, &[len])?;
        let bytes = aligned(view.dtype, &view.bytes);
        let matrix = Matrix { dtype: view.dtype, bytes, columns: len };
        let mut values = vec![0.0; len];
        matrix.add_row(0, &mut values);
        Ok(values)
    }

    /// A projection with a bias.
    pub(super) fn affine(
        &self,
        name: &str,
        [out_features, in_features]: [usize; 2],
    ) -> Result<Affine, WeightError> {
        Ok(Affine {
            weight: self.matrix(&format!("{name}.weight"), [out_features, in_features])?,
            bias: Some(self.vector(&format!("{name}.bias"), out_features)?),
            out_features,
        })
    }

    /// A layer norm; the first BERT called its parameters otherwise.
    pub(super) fn norm(&self, name: &str, eps: f32, len: usize) -> Result<Norm, WeightError> {
        let old = self.has(&format!("{name}.gamma"));
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm {
            weight: self.vector(&format!("{name}.{weight}"), len)?,
            bias: self.vector(&format!("{name}.{bias}"), len)?,
            eps,
        })
    }
}

/// The same elements where the kernels can read them.
fn aligned(dtype: WeightDtype, bytes: &[u8]) -> Bytes {
    match dtype {
        WeightDtype::F32 => own(bytemuck::pod_collect_to_vec::<u8, f32>(bytes)),
        WeightDtype::F16 => own(bytemuck::pod_collect_to_vec::<u8, f16>(bytes)),
        WeightDtype::Bf16 => own(bytemuck::pod_collect_to_vec::<u8, bf16>(bytes)),
    }
}

/// A matrix as it is stored, its elements aligned.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    dtype: WeightDtype,
    bytes: Bytes,
    columns: usize,
}

impl Matrix {
    fn weights(&self) -> Weights<'_> {
        match self.dtype {
            WeightDtype::F32 => Weights::F32(bytemuck::cast_slice(&self.bytes)),
            WeightDtype::F16 => Weights::F16(bytemuck::cast_slice(&self.bytes)),
            WeightDtype::Bf16 => Weights::Bf16(bytemuck::cast_slice(&self.bytes)),
        }
    }

    /// Adds row `row` to `to`.
    pub(super) fn add_row(&self, row: usize, to: &mut [f32]) {
        let range = row * self.columns..(row + 1) * self.columns;
        let pairs = to.iter_mut();
        match self.weights() {
            Weights::F32(w) => pairs.zip(&w[range]).for_each(|(to, w)| *to += w),
            Weights::F16(w) => pairs.zip(&w[range]).for_each(|(to, w)| *to += w.to_f32()),
            Weights::Bf16(w) => pairs.zip(&w[range]).for_each(|(to, w)| *to += w.to_f32()),
            _ => {}
        }
    }
}

/// `y = x W^T + b`.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) weight: Matrix,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) out_features: usize,
}

impl Affine {
    /// Writes `y: [T, N]` for `x: [T, K]`.
    pub(super) fn project_to(&self, x: &[f32], y: &mut [f32]) {
        let shape = [self.out_features, self.weight.columns];
        cpu::linear(x, self.weight.weights(), shape, self.bias.as_deref(), y);
    }

    /// `y: [T, N]` for `x: [T, K]`.
    pub(super) fn project(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.weight.columns;
        let mut y = vec![0.0; rows * self.out_features];
        self.project_to(x, &mut y);
        y
    }
}

/// The parameters of a layer norm: `[D]` each.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) eps: f32,
}
