//! AWQ and SmoothQuant: which scales to fold in front of a group of projections.
//!
//! Shapes: `N` out_features, `K` in_features, `C` channels of the source, `S` sampled rows.

use lightglm_core::WeightSource;
use lightglm_kernels::ActivationFormat;
use lightglm_kernels::cpu::{self, Weights};
use rayon::prelude::*;

use super::MethodError;
use super::clip::value;
use super::fold::{Fold, FoldPair, to_f32};
use super::layer_weight::LayerWeight;
use super::statistics::InputStatistics;
use crate::round_to_nearest::scale_of;
use crate::{WeightScheme, round_to_nearest};

/// The smallest and the largest magnitude that enters a scale, relative to the largest.
const FLOOR: f32 = 1e-4;

/// A found fold, with what it is expected to win.
#[derive(Clone, Debug)]
pub struct ScaleSearch {
    /// What to fold; scales of 1 where nothing was won.
    pub fold: Fold,
    /// The exponent that won; `None` where no scaling was better than any.
    pub exponent: Option<f32>,
    /// The objective without scaling.
    pub before: f64,
    /// The objective with it, at most `before`.
    pub after: f64,
}

/// A weight `[N, K]` in f32 and its shape.
type Dense = (Vec<f32>, [usize; 2]);

/// The consumers' weights of a pair, read from `weights` in f32 with their shapes.
fn consumers(
    weights: &dyn WeightSource,
    pair: &FoldPair,
    inputs: &InputStatistics,
) -> Result<Vec<Dense>, MethodError> {
    let read = |name: &String| {
        let view = weights.tensor(&format!("{name}.weight"))?;
        let (weight, shape) = (to_f32(&view), view.shape);
        let Ok(shape) = <[usize; 2]>::try_from(shape.clone()) else {
            return Err(MethodError::Fold { name: name.clone(), shape, scales: inputs.width() });
        };
        LayerWeight { name, weight: &weight, shape }.check(Some(inputs))?;
        Ok((weight, shape))
    };
    pair.consumers.iter().map(read).collect()
}

/// AWQ: scales `mean |x|^a` for the exponent of the grid `0, 1/steps, .., 1` with the least error.
///
/// The objective is `sum over columns of mean(x^2) * (w - q(w s) / s)^2`, relative to the weights'
/// own sum, added over the consumers: the expected squared error of the outputs with the columns'
/// rounding errors taken as uncorrelated.
///
/// Source: Lin et al. 2023, "AWQ", section 3.2.
///
/// # Errors
/// [`MethodError`] naming the layer.
pub fn awq(
    weights: &dyn WeightSource,
    pair: &FoldPair,
    inputs: &InputStatistics,
    scheme: &WeightScheme,
    steps: usize,
) -> Result<ScaleSearch, MethodError> {
    let consumers = consumers(weights, pair, inputs)?;
    let importance = inputs.mean_square();
    let magnitude = per_channel(pair, &inputs.mean_abs(), |sum, x| sum + x);
    let objective = |scales: &[f32]| -> f64 {
        let loss = |(weight, shape): &(Vec<f32>, [usize; 2])| {
            weighted_loss(weight, shape[1], pair, scales, &importance, scheme)
        };
        consumers.iter().map(loss).sum()
    };
    let candidates = (1..=steps).map(|step| {
        let exponent = step as f32 / steps as f32;
        (exponent, normalized(magnitude.iter().map(|m| m.powf(exponent)).collect()))
    });
    Ok(search(pair, magnitude.len(), candidates.collect(), objective))
}

/// SmoothQuant: scales `max |x|^a / max |w|^(1 - a)` for the exponent of the grid `0, 1/steps, .., 1`
/// with the least error of the outputs on the sampled rows, weights quantized as `scheme` and
/// activations as `format` says. Without sampled rows nothing is scaled.
///
/// Source: Xiao et al. 2022, "SmoothQuant", section 4.
///
/// # Errors
/// [`MethodError`] naming the layer.
pub fn smooth_quant(
    weights: &dyn WeightSource,
    pair: &FoldPair,
    inputs: &InputStatistics,
    scheme: &WeightScheme,
    format: ActivationFormat,
    steps: usize,
) -> Result<ScaleSearch, MethodError> {
    let consumers = consumers(weights, pair, inputs)?;
    let absmax = per_channel(pair, inputs.absmax(), f32::max);
    let mut largest = vec![0.0f32; inputs.width()];
    for row in consumers.iter().flat_map(|(weight, shape)| weight.chunks_exact(shape[1])) {
        largest.iter_mut().zip(row).for_each(|(max, w)| *max = max.max(w.abs()));
    }
    let largest = per_channel(pair, &largest, f32::max);
    let wanted: Vec<Vec<f32>> =
        consumers.iter().map(|(w, shape)| multiply(inputs.samples(), w, *shape)).collect();
    let objective = |scales: &[f32]| -> f64 {
        let k = inputs.width();
        let expanded: Vec<f32> = (0..k).map(|c| scales[pair.source.channel(c)]).collect();
        let mut x = inputs.samples().to_vec();
        x.chunks_exact_mut(k).for_each(|row| {
            row.iter_mut().zip(&expanded).for_each(|(x, s)| *x /= s);
            round_activations(row, format);
        });
        let loss = |((weight, shape), wanted): (&(Vec<f32>, [usize; 2]), &Vec<f32>)| {
            let mut scaled = weight.clone();
            for row in scaled.chunks_exact_mut(k) {
                row.iter_mut().zip(&expanded).for_each(|(w, s)| *w *= s);
            }
            let matrix = round_to_nearest(&pair.consumers[0], &scaled, *shape, scheme);
            let Ok(matrix) = matrix else { return f64::INFINITY };
            let got = multiply(&x, &matrix.dequantize(), *shape);
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error: f64 = got.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
            error / wanted.iter().map(|&y| square(y)).sum::<f64>().max(f64::MIN_POSITIVE)
        };
        consumers.iter().zip(&wanted).map(loss).sum()
    };
    let exponents = (0..=steps).map(|step| step as f32 / steps as f32);
    let candidates = exponents.map(|a| {
        let scale = |(x, w): (&f32, &f32)| x.powf(a) / w.powf(1.0 - a);
        (a, normalized(absmax.iter().zip(&largest).map(scale).collect()))
    });
    let channels = absmax.len();
    Ok(search(pair, channels, candidates.collect(), objective))
}

/// The best of `candidates`, or no scaling.
fn search(
    pair: &FoldPair,
    channels: usize,
    candidates: Vec<(f32, Vec<f32>)>,
    objective: impl Fn(&[f32]) -> f64,
) -> ScaleSearch {
    let scales = vec![1.0; channels];
    let before = objective(&scales);
    let fold = Fold { pair: pair.clone(), scales };
    let mut best = ScaleSearch { fold, exponent: None, before, after: before };
    for (exponent, scales) in candidates {
        if !scales.iter().all(|&s| s.is_finite() && s > 0.0) {
            continue;
        }
        let after = objective(&scales);
        if after < best.after {
            best.fold.scales = scales;
            (best.exponent, best.after) = (Some(exponent), after);
        }
    }
    best
}

/// Columns joined to the channels they read, at least [`FLOOR`] of the largest.
fn per_channel(pair: &FoldPair, columns: &[f32], join: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let mut channels = vec![0.0; pair.source.channels(columns.len())];
    for (column, &x) in columns.iter().enumerate() {
        let channel = &mut channels[pair.source.channel(column)];
        *channel = join(*channel, x);
    }
    let largest = channels.iter().copied().fold(0.0, f32::max);
    let floor = if largest > 0.0 { largest * FLOOR } else { 1.0 };
    channels.into_iter().map(|x: f32| x.max(floor)).collect()
}

/// Scales around 1: divided by the geometric mean of the smallest and the largest.
fn normalized(scales: Vec<f32>) -> Vec<f32> {
    let largest = scales.iter().copied().fold(0.0, f32::max);
    let smallest = scales.iter().copied().fold(f32::INFINITY, f32::min);
    let middle = (largest * smallest).sqrt();
    scales.into_iter().map(|s| s / middle).collect()
}

/// [`awq`]'s objective of one consumer.
fn weighted_loss(
    weight: &[f32],
    k: usize,
    pair: &FoldPair,
    scales: &[f32],
    importance: &[f32],
    scheme: &WeightScheme,
) -> f64 {
    let expanded: Vec<f32> = (0..k).map(|c| scales[pair.source.channel(c)]).collect();
    let size = scheme.group_size(k);
    let sums = weight.par_chunks(k.max(1)).map(|row| {
        let scaled: Vec<f32> = row.iter().zip(&expanded).map(|(w, s)| w * s).collect();
        let (mut error, mut energy) = (0.0f64, 0.0f64);
        for (g, group) in scaled.chunks(size).enumerate() {
            let (scale, minimum) = scale_of(group, scheme);
            for (i, &w) in group.iter().enumerate() {
                let column = g * size + i;
                let lost = (w - value(w, scale, minimum, scheme)) / expanded[column];
                error += f64::from(importance[column]) * f64::from(lost * lost);
                energy += f64::from(importance[column]) * f64::from(row[column] * row[column]);
            }
        }
        (error, energy)
    });
    // Collected in order first: the same sum for any number of threads.
    let sums: Vec<(f64, f64)> = sums.collect();
    let (error, energy) = sums.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    error / energy.max(f64::MIN_POSITIVE)
}

fn multiply(x: &[f32], weight: &[f32], [n, k]: [usize; 2]) -> Vec<f32> {
    let mut y = vec![0.0; x.len() / k.max(1) * n];
    cpu::linear(x, Weights::F32(weight), [n, k], None, &mut y);
    y
}

/// A row of activations as it comes back from quantization.
fn round_activations(row: &mut [f32], format: ActivationFormat) {
    let size = format.group_size.unwrap_or(row.len()).max(1);
    let largest = format.bits.largest() as f32;
    for group in row.chunks_mut(size) {
        let absmax = group.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        if absmax > 0.0 {
            let scale = absmax / largest;
            group.iter_mut().for_each(|x| *x = (*x / scale).round_ties_even() * scale);
        }
    }
}
