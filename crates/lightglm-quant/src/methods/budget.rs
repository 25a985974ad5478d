//! The scheme of each layer under a budget of bytes.
//!
//! Shapes: `N` out_features, `K` in_features.

use lightglm_kernels::{QuantizedMatrix, ScaleDtype};
use rayon::prelude::*;

use super::MethodError;
use super::layer_weight::LayerWeight;
use super::statistics::InputStatistics;
use crate::WeightScheme;

/// What a scheme costs and loses in one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The scheme.
    pub scheme: WeightScheme,
    /// Bytes of codes, scales and minimums.
    pub bytes: usize,
    /// What is lost, in any unit that adds up over layers (relative output error, nats).
    pub loss: f64,
}

/// The schemes that a layer may have.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerChoices {
    /// The layer's name, without `.weight`.
    pub name: String,
    /// Its weights, `N K`.
    pub weights: usize,
    /// At least one.
    pub choices: Vec<Choice>,
}

/// A scheme for every layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Name, weights and choice, in the order the layers came in.
    pub layers: Vec<(String, usize, Choice)>,
}

impl Assignment {
    /// Bytes of all layers.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|(_, _, choice)| choice.bytes).sum()
    }

    /// Bits of a weight, scales included.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: usize = self.layers.iter().map(|(_, weights, _)| weights).sum();
        self.bytes() as f64 * 8.0 / weights.max(1) as f64
    }

    /// The losses' sum.
    pub fn loss(&self) -> f64 {
        self.layers.iter().map(|(_, _, choice)| choice.loss).sum()
    }

    /// The scheme of the layer `name`.
    pub fn scheme(&self, name: &str) -> Option<WeightScheme> {
        let mut layers = self.layers.iter();
        layers.find(|(layer, _, _)| layer == name).map(|(_, _, choice)| choice.scheme)
    }

    /// A table in Markdown: layer, bits of a code, group, bytes, loss.
    pub fn to_markdown(&self) -> String {
        let mut table =
            String::from("| layer | bits | group | bytes | loss |\n|---|---|---|---|---|\n");
        for (name, _, choice) in &self.layers {
            let bits = choice.scheme.bits.count();
            let group = match choice.scheme.granularity {
                crate::Granularity::PerChannel => "row".to_owned(),
                crate::Granularity::PerGroup(size) => size.to_string(),
            };
            let (bytes, loss) = (choice.bytes, choice.loss);
            table += &format!("| {name} | {bits} | {group} | {bytes} | {loss:.3e} |\n");
        }
        table
    }
}

/// Bytes that a weight of this shape takes in `scheme`: codes, scales and minimums.
pub fn scheme_bytes([n, k]: [usize; 2], scheme: &WeightScheme) -> usize {
    let codes = n * (k * scheme.bits.count()).div_ceil(8);
    let parts = if scheme.symmetric { 1 } else { 2 };
    let groups = n * k.div_ceil(scheme.group_size(k));
    let scales = match scheme.scale_dtype {
        ScaleDtype::Nested => groups + n * k.div_ceil(ScaleDtype::NESTED_COLUMNS) * 2,
        dtype => groups * dtype.size(),
    };
    codes + scales * parts
}

/// The squared error of the outputs that `matrix` makes of `layer`, relative to the outputs: with
/// the Gram matrix where it is there, with the columns' mean squares otherwise, and with all columns
/// alike where nothing is known of the inputs.
///
/// # Errors
/// [`MethodError::Width`].
pub fn relative_output_error(
    layer: &LayerWeight<'_>,
    matrix: &QuantizedMatrix,
    inputs: Option<&InputStatistics>,
) -> Result<f64, MethodError> {
    layer.check(inputs)?;
    let k = layer.shape[1];
    let gram = inputs.and_then(InputStatistics::gram);
    let squares = inputs.map(InputStatistics::mean_square);
    let form = |x: &[f32]| -> f64 {
        match (gram, &squares) {
            (Some(gram), _) => {
                let rows = gram.chunks_exact(k).zip(x);
                rows.map(|(gram, &xi)| f64::from(xi) * f64::from(dot(gram, x))).sum()
            }
            (None, Some(squares)) => {
                x.iter().zip(squares).map(|(&x, &s)| f64::from(x * x) * f64::from(s)).sum()
            }
            (None, None) => x.iter().map(|&x| f64::from(x * x)).sum(),
        }
    };
    let rows = layer.weight.par_chunks(k.max(1)).enumerate().map(|(n, weight)| {
        let mut lost = vec![0.0; k];
        matrix.dequantize_row(n, &mut lost);
        lost.iter_mut().zip(weight).for_each(|(back, w)| *back -= w);
        (form(&lost), form(weight))
    });
    let rows: Vec<(f64, f64)> = rows.collect();
    let (error, energy) = rows.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    Ok(error.max(0.0) / energy.max(f64::MIN_POSITIVE))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (a16, b16) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a16.remainder().iter().zip(b16.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a16.zip(b16) {
        for lane in 0..16 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The choice of schemes with little loss within `budget` bytes: every layer starts with its
/// smallest scheme, and the step that wins most per byte is taken as long as it fits; then steps
/// that no longer fit are paid for by other layers, as long as that lowers the sum.
///
/// # Errors
/// [`MethodError::Budget`] where the smallest schemes are too large.
///
/// # Panics
/// Where a layer has no choices.
pub fn search_budget(layers: &[LayerChoices], budget: usize) -> Result<Assignment, MethodError> {
    let smallest = |layer: &LayerChoices| {
        let by = |a: &&Choice, b: &&Choice| a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss));
        *layer.choices.iter().min_by(by).expect("a layer has at least one choice")
    };
    let mut chosen: Vec<Choice> = layers.iter().map(smallest).collect();
    let mut bytes: usize = chosen.iter().map(|choice| choice.bytes).sum();
    if bytes > budget {
        return Err(MethodError::Budget { budget, least: bytes });
    }
    loop {
        let mut best: Option<(f64, usize, Choice)> = None;
        for (at, layer) in layers.iter().enumerate() {
            let now = chosen[at];
            for &choice in &layer.choices {
                let fits = bytes - now.bytes + choice.bytes <= budget;
                if !fits || choice.loss >= now.loss || choice.loss.is_nan() {
                    continue;
                }
                let added = choice.bytes.saturating_sub(now.bytes).max(1);
                let gain = (now.loss - choice.loss) / added as f64;
                if best.is_none_or(|(most, _, _)| gain > most) {
                    best = Some((gain, at, choice));
                }
            }
        }
        let Some((_, at, choice)) = best else { break };
        bytes = bytes - chosen[at].bytes + choice.bytes;
        chosen[at] = choice;
    }
    while exchange(layers, &mut chosen, budget) {}
    let layers = layers.iter().zip(chosen);
    Ok(Assignment { layers: layers.map(|(l, c)| (l.name.clone(), l.weights, c)).collect() })
}

/// One better choice of a layer, paid for by what is left of the budget and by worse choices of others; whether there was one that
/// lowers the loss.
fn exchange(layers: &[LayerChoices], chosen: &mut [Choice], budget: usize) -> bool {
    let bytes: usize = chosen.iter().map(|choice| choice.bytes).sum();
    for at in 0..layers.len() {
        for &choice in &layers[at].choices {
            let gain = chosen[at].loss - choice.loss;
            let needed = (bytes - chosen[at].bytes + choice.bytes).saturating_sub(budget);
            if gain.is_nan() || gain <= 0.0 {
                continue;
            }
            let Some((payers, cost)) = payers(layers, chosen, at, needed) else { continue };
            // A share of the gain, so that rounding cannot make two choices trade places for ever.
            if cost < gain * (1.0 - 1e-9) {
                payers.into_iter().for_each(|(other, choice)| chosen[other] = choice);
                chosen[at] = choice;
                return true;
            }
        }
    }
    false
}

/// Smaller choices of layers other than `at` that free `needed` bytes, and what they add to the
/// loss; those that lose least per byte first.
fn payers(
    layers: &[LayerChoices],
    chosen: &[Choice],
    at: usize,
    needed: usize,
) -> Option<(Vec<(usize, Choice)>, f64)> {
    let mut offers: Vec<(f64, usize, Choice)> = Vec::new();
    for (other, layer) in layers.iter().enumerate().filter(|&(other, _)| other != at) {
        let now = chosen[other];
        let smaller = layer.choices.iter().filter(|choice| choice.bytes < now.bytes);
        let price = |choice: &Choice| (choice.loss - now.loss) / (now.bytes - choice.bytes) as f64;
        let cheapest = smaller.min_by(|a, b| price(a).total_cmp(&price(b)));
        offers.extend(cheapest.map(|choice| (price(choice), other, *choice)));
    }
    offers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut taken, mut freed, mut cost) = (Vec::new(), 0, 0.0);
    for (_, other, choice) in offers {
        if freed >= needed {
            break;
        }
        freed += chosen[other].bytes - choice.bytes;
        cost += choice.loss - chosen[other].loss;
        taken.push((other, choice));
    }
    (freed >= needed).then_some((taken, cost))
}
