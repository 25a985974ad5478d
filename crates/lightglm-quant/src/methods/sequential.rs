//! `SequentialLinear`: a projection that quantizes itself on what reaches it first.
//!
//! One pass of the calibration text quantizes a whole model, and each layer is calibrated on what
//! the quantized layers before it really give it.
//!
//! Shapes: `T` rows, `K` in_features, `N` out_features.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use burn::module::Module;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::Linear;
use lightglm_kernels::cpu::{self, Weights};
use lightglm_kernels::{LmBackend, QuantizedMatrix};
use rayon::prelude::*;

use super::MethodError;
use super::cholesky::{cholesky, solve};
use super::layer_weight::LayerWeight;
use super::quantization_method::QuantizationMethod;
use super::statistics::{InputStatistics, Record, add_cross, transpose};
use crate::WeightScheme;

/// Columns over rows, times this, is added to the ridge of [`match_outputs`].
const SHRINKAGE: f64 = 2.0;

/// Says how the layer `name` is quantized; `None` leaves it as it is.
///
/// It is asked once a layer, in the order in which the model runs them and just before the work: a
/// progress bar can advance in it, and a stop can answer `None` from then on.
pub type LayerPolicy = dyn Fn(&str) -> Option<WeightScheme> + Send + Sync;

/// What the [`SequentialLinear`]s of a model share: the method, the policy and the results.
pub struct SequentialQuantizer {
    quantizer: Box<dyn QuantizationMethod>,
    policy: Box<LayerPolicy>,
    matching: Option<f32>,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
struct Done {
    matrices: BTreeMap<String, QuantizedMatrix>,
    first_error: Option<MethodError>,
}

impl SequentialQuantizer {
    /// Quantizes with `quantizer` what `policy` names.
    ///
    /// `matching`: the batch holds every row twice, first as the unquantized model computes it and
    /// then as the quantized one does ([`calibrate_twice`](super::calibrate_twice)). Before a weight
    /// is quantized it is moved to where it gives the outputs of the first from the inputs of the
    /// second; the number is the ridge of that regression, as a share of the mean of the Gram
    /// matrix's diagonal; more is added where the text is short.
    ///
    /// Source: Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric
    /// Calibration", for the objective; the ridge regression before the walk is ours.
    pub fn new(
        quantizer: Box<dyn QuantizationMethod>,
        policy: Box<LayerPolicy>,
        matching: Option<f32>,
    ) -> Arc<Self> {
        Arc::new(Self { quantizer, policy, matching, done: Mutex::default() })
    }

    /// The quantized layers by name.
    ///
    /// # Errors
    /// The first error of a layer.
    pub fn take(&self) -> Result<BTreeMap<String, QuantizedMatrix>, MethodError> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let done = std::mem::take(&mut *done);
        match done.first_error {
            Some(error) => Err(error),
            None => Ok(done.matrices),
        }
    }

    /// Quantizes a layer on the inputs `x: [T, K]`; `reference` is what they would be without
    /// quantization.
    fn quantize(
        &self,
        layer: &LayerWeight<'_>,
        scheme: &WeightScheme,
        x: &[f32],
        reference: Option<&[f32]>,
    ) -> Result<QuantizedMatrix, MethodError> {
        let k = layer.shape[1];
        let mut inputs = InputStatistics::default();
        inputs.add(layer.name, x, k, Record { gram: true, samples: 0 })?;
        let moved = match (reference, self.matching) {
            (Some(reference), Some(ridge)) if reference != x => {
                match_outputs(layer, x, reference, &inputs, ridge)
            }
            _ => None,
        };
        let weight = moved.as_deref().unwrap_or(layer.weight);
        self.quantizer.quantize(&LayerWeight { weight, ..*layer }, scheme, Some(&inputs))
    }
}

impl std::fmt::Debug for SequentialQuantizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SequentialQuantizer").field("quantizer", &self.quantizer).finish()
    }
}

/// The weight that gives `W reference^T` from `x`: `W + W (reference - x)^T x (X^T X + ridge)^-1`.
/// `None` where the Gram matrix cannot be factored.
fn match_outputs(
    layer: &LayerWeight<'_>,
    x: &[f32],
    reference: &[f32],
    inputs: &InputStatistics,
    ridge: f32,
) -> Option<Vec<f32>> {
    let [n, k] = layer.shape;
    let gram = inputs.gram()?;
    let mean = (0..k).map(|i| f64::from(gram[i * k + i])).sum::<f64>() / k.max(1) as f64;
    let mut damped: Vec<f64> = gram.iter().map(|&g| f64::from(g)).collect();
    // As for GPTQ: few rows know little.
    let ridge = f64::from(ridge) + SHRINKAGE * k as f64 / inputs.rows().max(1) as f64;
    (0..k).for_each(|i| damped[i * k + i] += ridge * mean);
    let factor = cholesky(damped, k)?;
    let lost: Vec<f32> = reference.iter().zip(x).map(|(a, b)| a - b).collect();
    let mut cross = vec![0.0; k * k];
    add_cross(&mut cross, &lost, x, k, k);
    let mut moved = vec![0.0; n * k];
    cpu::linear(layer.weight, Weights::F32(&transpose(&cross, k)), [k, k], None, &mut moved);
    moved.par_chunks_mut(k).zip(layer.weight.par_chunks(k)).for_each(|(row, weight)| {
        let mut solution: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        solve(&factor, k, &mut solution);
        for ((row, &w), x) in row.iter_mut().zip(weight).zip(solution) {
            *row = w + x as f32;
        }
    });
    moved.iter().all(|w| w.is_finite()).then_some(moved)
}

/// A projection `y = x W^T + b` which quantizes its weight on the rows of its first call and uses
/// the quantized weight from then on.
///
/// So the whole calibration text must come in one call of the model
/// ([`CalibrationConfig::windows_per_step`](super::CalibrationConfig::windows_per_step)).
#[derive(Module, Debug)]
pub struct SequentialLinear<B: Backend> {
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    #[module(skip)]
    name: String,
    #[module(skip)]
    shared: Arc<SequentialQuantizer>,
    #[module(skip)]
    quantized: Arc<OnceLock<TensorData>>,
}

impl<B: LmBackend> SequentialLinear<B> {
    /// A projection called `name` with `weight: [N, K]` and `bias: [N]`.
    pub fn new(
        name: &str,
        weight: Tensor<B, 2>,
        bias: Option<Tensor<B, 1>>,
        shared: Arc<SequentialQuantizer>,
    ) -> Self {
        Self { weight, bias, name: name.to_owned(), shared, quantized: Arc::default() }
    }

    /// The weight as it comes back from quantization; as it is where it stays so, or where
    /// quantization failed, which [`SequentialQuantizer::take`] then says.
    fn rounded(&self, x: &Tensor<B, 2>) -> TensorData {
        let shape = self.shape();
        let weight: Vec<f32> = self.weight.to_data().iter::<f32>().collect();
        let Some(scheme) = (self.shared.policy)(&self.name) else {
            return TensorData::new(weight, shape);
        };
        let rows: Vec<f32> = x.to_data().iter::<f32>().collect();
        let (reference, rows) = match self.shared.matching {
            Some(_) => {
                let (reference, rows) = rows.split_at(rows.len() / 2);
                (Some(reference), rows)
            }
            None => (None, &rows[..]),
        };
        let layer = LayerWeight { name: &self.name, weight: &weight, shape };
        let quantized = self.shared.quantize(&layer, &scheme, rows, reference);
        let mut done = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        match quantized {
            Ok(matrix) => {
                let values = matrix.dequantize();
                done.matrices.insert(self.name.clone(), matrix);
                TensorData::new(values, shape)
            }
            Err(error) => {
                done.first_error.get_or_insert(error);
                TensorData::new(weight, shape)
            }
        }
    }
}

impl<B: LmBackend> Linear<B> for SequentialLinear<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let rounded = self.quantized.get_or_init(|| self.rounded(&x));
        let rounded = Tensor::from_data(rounded.clone(), &x.device());
        if self.shared.matching.is_none() {
            return B::project(x, rounded, self.bias.clone());
        }
        let [t, _] = x.dims();
        let half = t / 2;
        let reference = x.clone().narrow(0, 0, half);
        let reference = B::project(reference, self.weight.clone(), self.bias.clone());
        let x = x.narrow(0, half, t - half);
        Tensor::cat(vec![reference, B::project(x, rounded, self.bias.clone())], 0)
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    fn bytes_read(&self) -> usize {
        let bias = self.bias.as_ref().map_or(0, |bias| bias.dims()[0] * bias.dtype().size());
        let [n, k] = self.shape();
        n * k * self.weight.dtype().size() + bias
    }
}
