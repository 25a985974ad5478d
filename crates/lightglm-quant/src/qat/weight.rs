//! Fake quantization of weights.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row, `g` columns of a group.

use burn::tensor::{DType, Tensor, backend::Backend};
use lightglm_kernels::LmBackend;

use super::groups::{grouped, round, ungrouped, untracked};
use super::observed_scales::{GroupScales, observed};
use crate::WeightScheme;

/// `weight: [N, K]` as it comes back from [`round_to_nearest`](crate::round_to_nearest), bit for bit,
/// in f32: `[N, K]`.
///
/// Its gradient is the weight's where the rounded code lies in range, and zero where it was clipped.
/// With symmetric scales, which reach a group's largest weight, none is.
///
/// # Panics
/// Where the group size is 0.
pub fn fake_quantize_weight<B: LmBackend>(
    weight: Tensor<B, 2>,
    scheme: &WeightScheme,
) -> Tensor<B, 2> {
    fake_quantize(weight, scheme, None)
}

/// [`fake_quantize_weight`], with scales `[N, G]` and minimums that gradients reach where there are.
pub(super) fn fake_quantize<B: LmBackend>(
    weight: Tensor<B, 2>,
    scheme: &WeightScheme,
    learned: Option<(Tensor<B, 2>, Option<Tensor<B, 2>>)>,
) -> Tensor<B, 2> {
    let [n, k] = weight.dims();
    if n * k == 0 {
        return weight;
    }
    let weight = if weight.dtype() == DType::F32 { weight } else { weight.cast(DType::F32) };
    let group = scheme.group_size(k);
    let values = grouped(untracked(weight.clone()), group);
    let tracked = learned.map(|(scales, minimums)| GroupScales {
        scale: scales.unsqueeze_dim(2),
        minimum: minimums.map(|minimums| minimums.unsqueeze_dim(2)),
    });
    let scales = match &tracked {
        None => observed(&values, scheme),
        Some(GroupScales { scale, minimum }) => {
            GroupScales { scale: untracked(scale.clone()), minimum: minimum.clone().map(untracked) }
        }
    };
    if tracked.is_none() && scheme.symmetric {
        let codes = divided(values, &scales).clamp(-largest(scheme), largest(scheme));
        return B::straight_through(ungrouped(multiplied(round(codes), &scales), k), weight);
    }
    let lowest = if scheme.symmetric { -largest(scheme) } else { 0.0 };
    let exact = divided(values, &scales);
    let rounded = round(exact.clone());
    let codes = rounded.clone().clamp(lowest, largest(scheme));
    let fake = multiplied(codes.clone(), &scales);
    if !B::ad_enabled(&fake.device()) {
        return ungrouped(fake, k);
    }
    let clipped = rounded.not_equal(codes.clone());
    let mut carrier = grouped(weight, group).mask_fill(clipped.clone(), 0.0);
    if let Some(GroupScales { scale, minimum }) = tracked {
        let of_scale = codes - exact.mask_fill(clipped.clone(), 0.0);
        carrier = carrier + scale * of_scale;
        if let Some(minimum) = minimum {
            carrier = carrier + minimum * clipped.float();
        }
    }
    ungrouped(B::straight_through(fake, carrier), k)
}

/// The largest code, without its offset where there is one.
fn largest(scheme: &WeightScheme) -> f32 {
    match scheme.symmetric {
        true => f32::from(scheme.bits.offset() - 1),
        false => f32::from(scheme.bits.largest()),
    }
}

/// `(weight - minimum) / scale`: `[N, G, g]`.
fn divided<B: Backend>(weight: Tensor<B, 3>, scales: &GroupScales<B>) -> Tensor<B, 3> {
    let weight = match &scales.minimum {
        Some(minimum) => weight - minimum.clone(),
        None => weight,
    };
    weight / scales.scale.clone()
}

/// `codes * scale + minimum`: `[N, G, g]`.
fn multiplied<B: Backend>(codes: Tensor<B, 3>, scales: &GroupScales<B>) -> Tensor<B, 3> {
    let weight = codes * scales.scale.clone();
    match &scales.minimum {
        Some(minimum) => weight + minimum.clone(),
        None => weight,
    }
}
