//! Round to nearest: the scheme itself, without any data.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row.

use half::f16;
use lightglm_kernels::{QuantizedMatrix, ScaleDtype};

use crate::{QuantError, WeightScheme};

/// Quantizes `weight: [N, K]`, row-major, each group by itself; `name` is what errors call it.
///
/// ```text
/// symmetric   scale = max |w| / 127 (8 bits) or / 7 (4 bits), 1 where the group is all zero
///             code  = round half to even (w / scale), clamped
/// otherwise   scale = (max - min) / 255 or / 15 over the group and zero, 1 where that is zero
///             zero  = round (-min / scale);  code = round (w / scale) + zero, clamped
/// ```
///
/// # Errors
/// [`QuantError::NotFinite`]; [`QuantError::Layer`] where the group size does not fit.
pub fn round_to_nearest(
    name: &str,
    weight: &[f32],
    shape: [usize; 2],
    scheme: &WeightScheme,
) -> Result<QuantizedMatrix, QuantError> {
    let [n, k] = shape;
    assert_eq!(weight.len(), n * k, "a weight has N * K elements");
    if let Some(at) = weight.iter().position(|w| !w.is_finite()) {
        let (row, column, value) = (at / k, at % k, weight[at]);
        return Err(QuantError::NotFinite { name: name.to_owned(), row, column, value });
    }
    let group_size = scheme.group_size(k);
    let mut matrix = QuantizedMatrix {
        shape,
        bits: scheme.bits,
        group_size,
        codes: Vec::with_capacity(n * k),
        scales: Vec::with_capacity(n * k.div_ceil(group_size)),
        minimums: (!scheme.symmetric).then(Vec::new),
    };
    for group in weight.chunks(k.max(1)).flat_map(|row| row.chunks(group_size)) {
        let (scale, minimum) = scale_of(group, scheme);
        matrix.scales.push(scale);
        matrix.minimums.iter_mut().for_each(|minimums| minimums.push(minimum));
        matrix.codes.extend(group.iter().map(|&w| code(w, scale, minimum, scheme)));
    }
    let check = matrix.check();
    check.map_err(|source| QuantError::Layer { name: name.to_owned(), source })?;
    Ok(matrix)
}

/// The scale of a group and its minimum (0 where the scheme is symmetric), rounded to the scheme's
/// precision.
pub fn scale_of(group: &[f32], scheme: &WeightScheme) -> (f32, f32) {
    let largest = group.iter().fold(0.0f32, |max, w| max.max(w.abs()));
    if scheme.symmetric {
        let levels = f32::from(scheme.bits.offset() - 1);
        let scale = stored(largest / levels, scheme.scale_dtype);
        return (if scale > 0.0 { scale } else { 1.0 }, 0.0);
    }
    let low = group.iter().fold(0.0f32, |min, &w| min.min(w));
    let high = group.iter().fold(0.0f32, |max, &w| max.max(w));
    let scale = stored((high - low) / f32::from(scheme.bits.largest()), scheme.scale_dtype);
    let scale = if scale > 0.0 { scale } else { 1.0 };
    let zero = (-low / scale).round_ties_even().clamp(0.0, f32::from(scheme.bits.largest()));
    (scale, stored(-zero * scale, scheme.scale_dtype))
}

/// The code of `w` in a group with this scale and minimum.
pub(crate) fn code(w: f32, scale: f32, minimum: f32, scheme: &WeightScheme) -> u8 {
    if scheme.symmetric {
        let offset = f32::from(scheme.bits.offset());
        let largest = offset - 1.0;
        return (round((w / scale).clamp(-largest, largest)) + offset) as u8;
    }
    let largest = f32::from(scheme.bits.largest());
    round(((w - minimum) / scale).clamp(0.0, largest)) as u8
}

/// Half to even, for magnitudes below 2^22: `round_ties_even` is a call of libm where the compiler
/// may not assume SSE4.1, and a search rounds every weight some thirty times.
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// `value` as a scale of precision `dtype` stores it.
fn stored(value: f32, dtype: ScaleDtype) -> f32 {
    match dtype {
        // No rounding makes nested scales: packing says so.
        ScaleDtype::F32 | ScaleDtype::Nested => value,
        // An f16 below its smallest normal number would be a coarse scale, above its largest none.
        ScaleDtype::F16 if value == 0.0 => value,
        ScaleDtype::F16 => {
            let magnitude = value.abs().clamp(f16::MIN_POSITIVE.to_f32(), f16::MAX.to_f32());
            f16::from_f32(magnitude.copysign(value)).to_f32()
        }
    }
}

#[cfg(test)]
mod tests {
    use lightglm_kernels::WeightBits;

    use super::*;
    use crate::Granularity;

    #[test]
    fn a_group_of_ties_rounds_to_even() {
        let scheme = WeightScheme {
            bits: WeightBits::Eight,
            granularity: Granularity::PerChannel,
            symmetric: true,
            scale_dtype: ScaleDtype::F32,
        };
        let weight = [127.0, 0.5, 1.5, -2.5, 0.0, -127.0, 3.0, -0.5];
        let matrix = round_to_nearest("w", &weight, [1, 8], &scheme).unwrap();
        let codes: Vec<i32> = matrix.codes.iter().map(|&c| i32::from(c) - 128).collect();
        assert_eq!(codes, [127, 0, 2, -2, 0, -127, 3, 0]);
        assert_eq!(matrix.scales, [1.0]);
    }
}
