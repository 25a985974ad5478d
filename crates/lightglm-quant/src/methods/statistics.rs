//! `InputStatistics`: what calibration knows about a layer's inputs.
//!
//! Shapes: `T` rows, `K` in_features, `S` sampled rows.

use lightglm_kernels::cpu::{self, Weights};

use super::MethodError;

/// Rows that one step of the Gram matrix multiplies at a time.
const GRAM_ROWS: usize = 1024;

/// What is recorded of a layer's inputs beside the cheap sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The Gram matrix, `4 K^2` bytes a layer: what GPTQ needs.
    pub gram: bool,
    /// Rows kept as they are, evenly spread over a call: what SmoothQuant's search needs.
    pub samples: usize,
}

/// Sums over all rows that went into a layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputStatistics {
    rows: usize,
    absmax: Vec<f32>,
    sum_abs: Vec<f64>,
    sum_square: Vec<f64>,
    gram: Vec<f32>,
    samples: Vec<f32>,
}

impl InputStatistics {
    /// Adds `x: [T, K]`, inputs of the layer `name`.
    ///
    /// # Errors
    /// [`MethodError::InputNotFinite`], [`MethodError::Width`]; nothing is added then.
    pub fn add(
        &mut self,
        name: &str,
        x: &[f32],
        width: usize,
        record: Record,
    ) -> Result<(), MethodError> {
        if self.rows > 0 && self.absmax.len() != width {
            let (in_features, observed) = (width, self.absmax.len());
            return Err(MethodError::Width { name: name.to_owned(), in_features, observed });
        }
        if let Some(at) = x.iter().position(|x| !x.is_finite()) {
            let (column, value) = (at % width, x[at]);
            return Err(MethodError::InputNotFinite { name: name.to_owned(), column, value });
        }
        self.absmax.resize(width, 0.0);
        self.sum_abs.resize(width, 0.0);
        self.sum_square.resize(width, 0.0);
        let rows = x.len() / width.max(1);
        for row in x.chunks_exact(width.max(1)) {
            for (k, &x) in row.iter().enumerate() {
                self.absmax[k] = self.absmax[k].max(x.abs());
                self.sum_abs[k] += f64::from(x.abs());
                self.sum_square[k] += f64::from(x) * f64::from(x);
            }
        }
        self.rows += rows;
        if record.gram {
            self.gram.resize(width * width, 0.0);
            add_gram(&mut self.gram, x, width);
        }
        let kept = self.samples.len() / width.max(1);
        let wanted = record.samples.saturating_sub(kept).min(rows);
        for i in 0..wanted {
            let row = i * rows / wanted;
            self.samples.extend_from_slice(&x[row * width..(row + 1) * width]);
        }
        Ok(())
    }

    /// Rows seen.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// `K`.
    pub fn width(&self) -> usize {
        self.absmax.len()
    }

    /// Largest magnitude of each column: `[K]`.
    pub fn absmax(&self) -> &[f32] {
        &self.absmax
    }

    /// Mean magnitude of each column: `[K]`.
    pub fn mean_abs(&self) -> Vec<f32> {
        self.sum_abs.iter().map(|sum| (sum / self.rows.max(1) as f64) as f32).collect()
    }

    /// Mean square of each column: `[K]`.
    pub fn mean_square(&self) -> Vec<f32> {
        self.sum_square.iter().map(|sum| (sum / self.rows.max(1) as f64) as f32).collect()
    }

    /// `X^T X: [K, K]`, or `None` where it was not recorded.
    pub fn gram(&self) -> Option<&[f32]> {
        (!self.gram.is_empty()).then_some(&self.gram)
    }

    /// Sampled rows `[S, K]`.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }
}

/// `gram += X^T X` with `x: [T, K]`.
pub(crate) fn add_gram(gram: &mut [f32], x: &[f32], width: usize) {
    add_cross(gram, x, x, width, width);
}

/// `cross += X^T Y` with `x: [T, K]`, `y: [T, J]`, `cross: [K, J]`.
pub(crate) fn add_cross(cross: &mut [f32], x: &[f32], y: &[f32], k: usize, j: usize) {
    let rows = x.len() / k.max(1);
    let mut product = vec![0.0; k * j];
    for first in (0..rows).step_by(GRAM_ROWS) {
        let t = GRAM_ROWS.min(rows - first);
        let x = transpose(&x[first * k..(first + t) * k], k);
        let y = transpose(&y[first * j..(first + t) * j], j);
        cpu::linear(&x, Weights::F32(&y), [j, t], None, &mut product);
        cross.iter_mut().zip(&product).for_each(|(sum, &product)| *sum += product);
    }
}

/// `x: [T, K] -> [K, T]`.
pub(crate) fn transpose(x: &[f32], k: usize) -> Vec<f32> {
    let t = x.len() / k.max(1);
    let mut out = vec![0.0; x.len()];
    for (row, x) in x.chunks_exact(k.max(1)).enumerate() {
        for (column, &x) in x.iter().enumerate() {
            out[column * t + row] = x;
        }
    }
    out
}
