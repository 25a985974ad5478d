//! Scales that minimize the squared error of a group, weighted by what goes into its columns.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row.

use half::f16;
use lightglm_kernels::{QuantizedMatrix, ScaleDtype, WeightBits};
use rayon::prelude::*;

use super::MethodError;
use super::layer_weight::LayerWeight;
use crate::WeightScheme;
use crate::round_to_nearest::{code, scale_of};

/// Shares of the largest magnitude that are tried as the end of the range.
const STEPS: usize = 20;

/// The smallest share of the largest magnitude that is tried.
const SMALLEST: f32 = 0.5;

/// The scale and minimum of `group` with the least `sum importance * (w - q(w))^2`; `importance`
/// has one value a column, `None` counts all columns alike. Never worse than
/// [`scale_of`](crate::scale_of).
pub fn clipped_scale(
    group: &[f32],
    importance: Option<&[f32]>,
    scheme: &WeightScheme,
) -> (f32, f32) {
    let mut best = scale_of(group, scheme);
    let mut least = group_error(group, importance, best, scheme);
    if scheme.bits == WeightBits::Eight {
        // 255 steps: what clipping wins in resolution is below what it loses at the ends.
        return best;
    }
    for step in 1..STEPS {
        let share = 1.0 - (1.0 - SMALLEST) * step as f32 / STEPS as f32;
        let clipped: Vec<f32> = group.iter().map(|w| w * share).collect();
        let candidate = refit(group, importance, scale_of(&clipped, scheme), scheme);
        let error = group_error(group, importance, candidate, scheme);
        if error < least {
            (best, least) = (candidate, error);
        }
    }
    best
}

/// The least-squares scale for the codes that `start` gives, as a symmetric scheme has a closed
/// form for it; `start` itself otherwise.
fn refit(
    group: &[f32],
    importance: Option<&[f32]>,
    start: (f32, f32),
    scheme: &WeightScheme,
) -> (f32, f32) {
    if !scheme.symmetric {
        return start;
    }
    let offset = f32::from(scheme.bits.offset());
    let [wq, qq] = weighted_sums(group, importance, |w| {
        let q = f32::from(code(w, start.0, start.1, scheme)) - offset;
        [w * q, q * q]
    });
    let scale = wq / qq;
    let scale = match scheme.scale_dtype {
        ScaleDtype::F16 => f16::from_f32(scale).to_f32(),
        ScaleDtype::F32 | ScaleDtype::Nested => scale,
    };
    let usable = scale.is_finite() && scale >= f16::MIN_POSITIVE.to_f32();
    if usable { (scale, 0.0) } else { start }
}

fn group_error(
    group: &[f32],
    importance: Option<&[f32]>,
    (scale, minimum): (f32, f32),
    scheme: &WeightScheme,
) -> f32 {
    let [error] = weighted_sums(group, importance, |w| {
        let error = w - value(w, scale, minimum, scheme);
        [error * error]
    });
    error
}

/// `sum importance * terms(w)` over a group, in eight lanes that the compiler can make a vector of.
fn weighted_sums<const M: usize>(
    group: &[f32],
    importance: Option<&[f32]>,
    terms: impl Fn(f32) -> [f32; M],
) -> [f32; M] {
    let mut lanes = [[0.0f32; 8]; M];
    for (at, part) in group.chunks(8).enumerate() {
        for (lane, &w) in part.iter().enumerate() {
            let weight = importance.map_or(1.0, |importance| importance[at * 8 + lane]);
            let terms = terms(w);
            (0..M).for_each(|m| lanes[m][lane] += weight * terms[m]);
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// `w` as it comes back from its code.
pub(crate) fn value(w: f32, scale: f32, minimum: f32, scheme: &WeightScheme) -> f32 {
    let code = f32::from(code(w, scale, minimum, scheme));
    match scheme.symmetric {
        true => (code - f32::from(scheme.bits.offset())) * scale,
        false => code * scale + minimum,
    }
}

/// Scales and minimums of every group of `weight`: `[N, G]` each.
pub(crate) fn clipped_scales(
    weight: &[f32],
    k: usize,
    importance: Option<&[f32]>,
    scheme: &WeightScheme,
) -> Vec<(f32, f32)> {
    let size = scheme.group_size(k);
    let row_scales = |row: &[f32]| -> Vec<(f32, f32)> {
        let groups = row.chunks(size).enumerate();
        let scale = |(g, group): (usize, &[f32])| {
            let part = importance.map(|i| &i[g * size..g * size + group.len()]);
            clipped_scale(group, part, scheme)
        };
        groups.map(scale).collect()
    };
    weight.par_chunks(k.max(1)).map(row_scales).collect::<Vec<_>>().concat()
}

/// Rounds `layer` to the nearest code of each group's scale.
pub(crate) fn with_scales(
    layer: &LayerWeight<'_>,
    scheme: &WeightScheme,
    scales: &[(f32, f32)],
) -> Result<QuantizedMatrix, MethodError> {
    let [_, k] = layer.shape;
    let size = scheme.group_size(k);
    let groups = k.div_ceil(size);
    let codes = layer.weight.par_chunks(k.max(1)).enumerate().flat_map_iter(|(n, row)| {
        row.iter().enumerate().map(move |(column, &w)| {
            let (scale, minimum) = scales[n * groups + column / size];
            code(w, scale, minimum, scheme)
        })
    });
    layer.matrix(scheme, codes.collect(), scales)
}
