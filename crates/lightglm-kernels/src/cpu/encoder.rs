//! What lies between the matrix products of encoders (of texts, pictures, speech): layer norms and activations.
//!
//! Plain loops over lanes of partial sums, which the compiler turns into vectors; they take a few hundredths
//! of the time of the products. The order of each sum is fixed, so a row's bits depend on the row alone.

use std::sync::{Mutex, PoisonError};

use super::team::parallel_for;
use lightglm_core::exp_nonpositive;

/// Partial sums of a row.
const LANES: usize = 16;

/// Elements that are worth handing to another thread.
const ELEMENTS_PER_TASK: usize = 16 * 1024;

/// Calls `work` with the number and the elements of each of the `pieces`, on the threads of the team.
pub(crate) fn for_each_piece<'a>(
    pieces: impl IntoIterator<Item = &'a mut [f32]>,
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let pieces: Vec<Mutex<&mut [f32]>> = pieces.into_iter().map(Mutex::new).collect();
    // Every piece is one task's alone, so no lock is waited for.
    parallel_for(pieces.len(), |index| {
        let mut piece = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        work(index, &mut piece);
    });
}

/// Layer norm of each row, of its sum with a residual where there is one: `x, residual: [T, D]`, `weight, bias: [D]`.
///
/// ```text
/// norm(x) = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias
/// ```
/// Source: Ba, Kiros and Hinton 2016, "Layer Normalization".
pub fn layer_norm(x: &mut [f32], residual: Option<&[f32]>, weight: &[f32], bias: &[f32], eps: f32) {
    let d = weight.len();
    let rows = ELEMENTS_PER_TASK.div_ceil(d);
    for_each_piece(x.chunks_mut(rows * d), |piece, x| {
        let residual = residual.map(|residual| &residual[piece * rows * d..][..x.len()]);
        for (row, x) in x.chunks_exact_mut(d).enumerate() {
            if let Some(residual) = residual {
                let residual = &residual[row * d..][..d];
                x.iter_mut().zip(residual).for_each(|(x, residual)| *x += residual);
            }
            norm_row(x, weight, bias, eps);
        }
    });
}

fn norm_row(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let d = x.len() as f32;
    let mean = lane_sum(x, |x| x) / d;
    let variance = lane_sum(x, |x| (x - mean) * (x - mean)) / d;
    let inverse = 1.0 / (variance + eps).sqrt();
    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * inverse * weight + bias;
    }
}

/// `f(x_0) + f(x_1) + ...` in lanes.
pub fn lane_sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += f(x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane += f(x));
    lanes.iter().sum()
}

/// An activation between two projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)`, `Phi` being the normal distribution.
    Gelu,
    /// The same by `tanh`, as GPT-2 has it.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Applies an activation to every element.
pub fn activate(x: &mut [f32], activation: Activation) {
    for_each_piece(x.chunks_mut(ELEMENTS_PER_TASK), |_, x| match activation {
        Activation::Gelu => x.iter_mut().for_each(|x| *x = gelu(*x)),
        Activation::GeluTanh => x.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        Activation::Relu => x.iter_mut().for_each(|x| *x = x.max(0.0)),
    });
}

/// `x Phi(x)`, `Phi` being the normal distribution.
///
/// Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// [`gelu`] by `tanh`, as GPT-2 has it.
fn gelu_tanh(x: f32) -> f32 {
    const ROOT: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(ROOT * (x + 0.044_715 * x * x * x)))
}

/// The error function within 5e-7, without a branch.
///
/// Source: Eigen, `MathFunctionsImpl.h`, `generic_fast_erf`: a rational function on [-4, 4]; beyond, 1 is the
/// closest number of 32 bits.
fn erf(x: f32) -> f32 {
    const NUMERATOR: [f32; 7] = [
        -2.726_142e-10,
        2.770_681_6e-8,
        -2.101_024_e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const DENOMINATOR: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
    const MOST: f32 = 4.0;
    let is_one = x.abs() >= MOST;
    let x = x.clamp(-MOST, MOST);
    let square = x * x;
    let polynomial = |coefficients: &[f32]| {
        coefficients.iter().copied().reduce(|p, coefficient| p * square + coefficient)
    };
    let (p, q) = (polynomial(&NUMERATOR), polynomial(&DENOMINATOR));
    let y = x * p.unwrap_or_default() / q.unwrap_or(1.0);
    if is_one { 1.0f32.copysign(x) } else { y }
}

/// The hyperbolic tangent by `exp`, whose argument is never above 0.
fn tanh(x: f32) -> f32 {
    let e = exp_nonpositive(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its series.
    fn exact_erf(x: f64) -> f64 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while f64::abs(term) > 1e-18 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn activations_are_close_to_the_exact_ones() {
        for step in -4000..=4000 {
            let x = step as f32 * 1e-3;
            let exact = exact_erf(f64::from(x));
            assert!((f64::from(erf(x)) - exact).abs() < 5e-7, "erf({x}): {} {exact}", erf(x));
            let (y, exact) = (f64::from(tanh(x)), f64::from(x).tanh());
            assert!((y - exact).abs() < 3e-7, "tanh({x}): {y} {exact}");
        }
        assert!((gelu(1.0) - 0.841_344_8).abs() < 1e-6);
        assert!((gelu_tanh(1.0) - 0.841_191_95).abs() < 1e-6);
        assert_eq!((gelu(0.0), gelu(20.0)), (0.0, 20.0));
        assert!(gelu(-20.0).abs() < 1e-5);
        assert!(gelu(f32::NAN).is_nan());
    }

    #[test]
    fn norms_have_mean_and_variance_of_their_parameters() {
        let d = 37;
        let mut x: Vec<f32> = (0..3 * d).map(|i| ((i * 31) % 17) as f32).collect();
        let residual = vec![1.0; 3 * d];
        layer_norm(&mut x, Some(&residual), &vec![2.0; d], &vec![3.0; d], 0.0);
        for row in x.chunks(d) {
            let mean: f32 = row.iter().sum::<f32>() / d as f32;
            let variance: f32 = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / d as f32;
            assert!((mean - 3.0).abs() < 1e-5 && (variance - 4.0).abs() < 1e-4);
        }
    }
}
