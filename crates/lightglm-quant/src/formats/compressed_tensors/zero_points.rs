//! `snap_minimums`: minimums as zero points.

use lightglm_kernels::QuantizedMatrix;

/// Moves each minimum to the nearest `-zero * scale` with a code `zero`, so that a zero point stands
/// for it. Returns the farthest that one moved, in scales: up to rounding 0 where the quantizer chose
/// zero points itself, up to 0.5 where minimums were free, more where they were positive.
///
/// A matrix whose scales are f16 values is exact afterwards: `code * scale + minimum` and the
/// package's `(code - zero) * scale` are the same f32, bit for bit.
pub fn snap_minimums(matrix: &mut QuantizedMatrix) -> f32 {
    let largest = f32::from(matrix.bits.largest());
    let minimums = matrix.minimums.iter_mut().flatten();
    minimums.zip(&matrix.scales).fold(0.0, |farthest, (minimum, scale)| {
        let zero = -*minimum / scale;
        // A scale of 0 has no other minimum than 0.
        let code = if zero.is_nan() { 0.0 } else { zero.round_ties_even().clamp(0.0, largest) };
        *minimum = -(code * scale);
        if zero.is_nan() { farthest } else { farthest.max((zero - code).abs()) }
    })
}
