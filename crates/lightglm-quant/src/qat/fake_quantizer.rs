//! `FakeQuantizer`: what a projection and a table share.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row, `T` rows of activations.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, backend::Backend};
use lightglm_kernels::{ActivationBits, LmBackend, PackingError, QuantizedMatrix};

use super::groups::{grouped, untracked};
use super::observed_scales::observed;
use super::rows::fake_quantize_rows;
use super::weight::fake_quantize;
use super::{LearnedScales, TrainedScales};
use crate::{MatrixWeight, PackedBytes, QuantError, QuantizedScheme, Scheme, round_to_nearest};

/// Where scales come from during training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleSource {
    /// From the weights, anew at every forward pass; gradients do not reach them.
    #[default]
    Observed,
    /// They are parameters, which start from the observed ones.
    Learned,
}

/// Fake quantization of one matrix and of the activations that meet it.
#[derive(Module, Debug)]
pub struct FakeQuantizer<B: Backend> {
    /// The scales, where they are learned.
    pub learned: Option<LearnedScales<B>>,
    #[module(skip)]
    scheme: Scheme,
}

impl<B: LmBackend> FakeQuantizer<B> {
    /// What leaves everything as it is.
    pub fn dense() -> Self {
        Self { learned: None, scheme: Scheme::Dense }
    }

    /// For `weight: [N, K]`, which errors call `name`.
    ///
    /// # Errors
    /// [`QuantError::Layer`] where the scheme does not fit; [`QuantError::NotFinite`].
    pub fn new(
        name: &str,
        weight: &Tensor<B, 2>,
        scheme: Scheme,
        scales: ScaleSource,
    ) -> Result<Self, QuantError> {
        let Scheme::Quantized(quantized) = scheme else { return Ok(Self::dense()) };
        let shape = weight.dims();
        check(name, shape, &quantized)?;
        finite(name, shape, &host(weight.clone()))?;
        let learned = match scales {
            ScaleSource::Observed => None,
            ScaleSource::Learned => {
                let weight = untracked(weight.clone()).cast(DType::F32);
                let weight = grouped(weight, quantized.weight.group_size(shape[1]));
                Some(LearnedScales::from_observed(observed(&weight, &quantized.weight)))
            }
        };
        Ok(Self { learned, scheme })
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `weight: [N, K]` as it comes back from quantization: `[N, K]`.
    pub fn weight(&self, weight: Tensor<B, 2>) -> Tensor<B, 2> {
        let Scheme::Quantized(scheme) = &self.scheme else { return weight };
        let dtype = scheme.weight.scale_dtype;
        let learned = self.learned.as_ref().map(|learned| learned.effective(dtype));
        fake_quantize(weight, &scheme.weight, learned)
    }

    /// `x: [T, K]` as it comes back from quantization: `[T, K]`. Activations of 16 bits stay as they
    /// are.
    pub fn activations(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.scheme {
            Scheme::Quantized(scheme) if scheme.activation.bits == ActivationBits::Eight => {
                let k = x.dims()[1];
                fake_quantize_rows(x, scheme.activation.group_size.unwrap_or(k))
            }
            _ => x,
        }
    }

    /// Codes and scales of `weight: [N, K]`, the very ones that [`Self::weight`] computes with;
    /// `None` where the scheme is dense.
    ///
    /// # Errors
    /// [`QuantError::NotFinite`] for a weight; [`QuantError::Layer`] where the scheme or the learned
    /// scales do not fit or are not finite.
    pub fn matrix(
        &self,
        name: &str,
        weight: Tensor<B, 2>,
    ) -> Result<Option<QuantizedMatrix>, QuantError> {
        let Scheme::Quantized(scheme) = &self.scheme else { return Ok(None) };
        let shape = weight.dims();
        check(name, shape, scheme)?;
        let weight = host(weight);
        if let Some(learned) = &self.learned {
            let misfit = |source| QuantError::Layer { name: name.to_owned(), source };
            learned.check().map_err(misfit)?;
        }
        let matrix = match self.trained_scales() {
            None => round_to_nearest(name, &weight, shape, &scheme.weight)?,
            Some((scales, minimums)) => {
                finite(name, shape, &weight)?;
                TrainedScales::codes(name, &weight, shape, &scheme.weight, scales, minimums)?
            }
        };
        Ok(Some(matrix))
    }

    /// The learned scales and minimums as they are computed with: `[N, G]` each.
    pub(super) fn trained_scales(&self) -> Option<(Vec<f32>, Option<Vec<f32>>)> {
        let Scheme::Quantized(scheme) = &self.scheme else { return None };
        let (scales, minimums) = self.learned.as_ref()?.effective(scheme.weight.scale_dtype);
        Some((host(scales), minimums.map(host)))
    }

    /// Rows `ids` of `table: [V, D]`, of which only those are quantized: `[T, D]`.
    pub(super) fn rows(&self, table: Tensor<B, 2>, ids: &[u32]) -> Tensor<B, 2> {
        let rows = B::embed(table, ids);
        let Scheme::Quantized(scheme) = &self.scheme else { return rows };
        let learned = self.learned.as_ref().map(|learned| {
            let (scales, minimums) = learned.effective(scheme.weight.scale_dtype);
            (B::embed(scales, ids), minimums.map(|minimums| B::embed(minimums, ids)))
        });
        fake_quantize(rows, &scheme.weight, learned)
    }

    /// `weight: [N, K]` packed, or as it is where the scheme is dense.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    pub fn packed(&self, name: &str, weight: Tensor<B, 2>) -> Result<MatrixWeight<B>, QuantError> {
        let weight = untracked(weight);
        let (device, k) = (weight.device(), weight.dims()[1]);
        let Scheme::Quantized(scheme) = &self.scheme else {
            return Ok(MatrixWeight::Dense(Param::from_tensor(weight)));
        };
        let misfit = |source| QuantError::Layer { name: name.to_owned(), source };
        let Some(matrix) = self.matrix(name, weight.clone())? else {
            return Ok(MatrixWeight::Dense(Param::from_tensor(weight)));
        };
        let packed = PackedBytes::pack(&matrix, scheme.format(k).map_err(misfit)?);
        let packed = packed.and_then(|packed| packed.into_matrix(&device)).map_err(misfit)?;
        Ok(MatrixWeight::Packed(packed))
    }
}

fn check(name: &str, shape: [usize; 2], scheme: &QuantizedScheme) -> Result<(), QuantError> {
    let misfit = |source: PackingError| QuantError::Layer { name: name.to_owned(), source };
    scheme.format(shape[1]).map(|_| ()).map_err(misfit)
}

fn finite(name: &str, [_, k]: [usize; 2], weight: &[f32]) -> Result<(), QuantError> {
    match weight.iter().position(|w| !w.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (row, column, value) = (at / k, at % k, weight[at]);
            Err(QuantError::NotFinite { name: name.to_owned(), row, column, value })
        }
    }
}

/// A tensor's elements in the host's memory.
fn host<B: Backend>(tensor: Tensor<B, 2>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().expect("converted to f32")
}
