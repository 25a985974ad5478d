//! Scales from the weights themselves, as [`round_to_nearest`](crate::round_to_nearest) takes them.
//!
//! Shapes: `N` out_features, `G` groups of a row, `g` columns of a group.

use burn::tensor::{DType, Tensor, backend::Backend};
use half::f16;
use lightglm_kernels::ScaleDtype;

use super::groups::round;
use crate::WeightScheme;

/// Scales and minimums of groups.
pub(super) struct GroupScales<B: Backend> {
    /// `[N, G, 1]`.
    pub(super) scale: Tensor<B, 3>,
    /// `[N, G, 1]`; `None` where the scheme is symmetric.
    pub(super) minimum: Option<Tensor<B, 3>>,
}

/// The scales of `weight: [N, G, g]`: [`scale_of`](crate::scale_of), bit for bit.
pub(super) fn observed<B: Backend>(weight: &Tensor<B, 3>, scheme: &WeightScheme) -> GroupScales<B> {
    // Two passes that read; `abs` would be one that writes as well.
    let (low, high) = (weight.clone().min_dim(2), weight.clone().max_dim(2));
    if scheme.symmetric {
        let levels = f32::from(scheme.bits.offset() - 1);
        let scale = positive(high.max_pair(low.neg()).div_scalar(levels), scheme.scale_dtype);
        return GroupScales { scale, minimum: None };
    }
    let largest = f32::from(scheme.bits.largest());
    let (low, high) = (low.clamp_max(0.0), high.clamp_min(0.0));
    let range = high - low.clone();
    let scale = positive(range.div_scalar(largest), scheme.scale_dtype);
    let zero = round(low.neg() / scale.clone()).clamp(0.0, largest);
    let minimum = stored((zero * scale.clone()).neg(), scheme.scale_dtype);
    GroupScales { scale, minimum: Some(minimum) }
}

/// Scales as they are stored, 1 where a group is all zero.
fn positive<B: Backend>(scale: Tensor<B, 3>, dtype: ScaleDtype) -> Tensor<B, 3> {
    let zero = scale.clone().equal_elem(0.0);
    magnitude(scale, dtype).mask_fill(zero, 1.0)
}

/// `values` as a scale of precision `dtype` stores them; zero stays zero.
pub(super) fn stored<B: Backend, const D: usize>(
    values: Tensor<B, D>,
    dtype: ScaleDtype,
) -> Tensor<B, D> {
    match dtype {
        ScaleDtype::F32 | ScaleDtype::Nested => values,
        ScaleDtype::F16 => values.clone().sign() * magnitude(values.abs(), dtype),
    }
}

/// `values` above zero as a scale of precision `dtype` stores them.
fn magnitude<B: Backend, const D: usize>(values: Tensor<B, D>, dtype: ScaleDtype) -> Tensor<B, D> {
    match dtype {
        ScaleDtype::F32 | ScaleDtype::Nested => values,
        // As on the host: normal numbers only.
        ScaleDtype::F16 => values
            .clamp(f16::MIN_POSITIVE.to_f32(), f16::MAX.to_f32())
            .cast(DType::F16)
            .cast(DType::F32),
    }
}
