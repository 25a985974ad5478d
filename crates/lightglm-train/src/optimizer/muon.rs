//! Muon: steps of orthogonal matrices. Shapes: `[N, K]` a projection's weight.

use burn::tensor::Tensor;
use lightglm_kernels::LmGradients;

/// How matrices are updated, where not by AdamW: by their momentum with all its singular values made (about) one, so that
/// directions that few examples ask for are learnt as fast as the others. What is called `embed_tokens` or `lm_head`,
/// norms and biases stay AdamW's.
///
/// A step costs five times `4 min(N, K)² max(N, K) + 2 min(N, K)³` operations a matrix more, whatever the batch. A model
/// of 6 million parameters that learnt from nothing needed two thirds of the steps, each of which took 1.5 times as long
/// at 1,400 tokens: what it saves in steps it costs in time there, and less of it with larger batches.
///
/// Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the step's size as in Liu et
/// al. 2025, "Muon is Scalable for LLM Training", section 2.2, so that AdamW's learning rates and decay fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonConfig {
    /// Decay of the momentum, which is Nesterov's.
    pub momentum: f64,
    /// The root mean square of a step's elements, in units of the learning rate.
    pub scale: f64,
}

impl Default for MuonConfig {
    fn default() -> Self {
        Self { momentum: 0.95, scale: 0.2 }
    }
}

/// Iterations: more come closer to orthogonal, to no use.
const ITERATIONS: usize = 5;

/// The coefficients of the quintic iteration, which push small singular values up fastest.
const COEFFICIENTS: (f32, f32, f32) = (3.4445, -4.7750, 2.0315);

/// A matrix with the singular vectors of `matrix` and singular values between about 0.7 and 1.2; zeros where it is zero.
///
/// Source: Jordan et al. 2024, "Newton-Schulz iteration".
pub fn orthogonalized<B: LmGradients>(matrix: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, columns] = matrix.dims();
    let norm = B::sum_of_squares(matrix.clone().reshape([rows * columns])).sqrt() as f32;
    if norm == 0.0 || !norm.is_finite() {
        return matrix;
    }
    let mut x = if rows > columns { matrix.transpose() } else { matrix } / norm;
    let (a, b, c) = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let gram = B::project_forward(x.clone(), x.clone());
        let squared = B::project_backward_input(gram.clone(), gram.clone());
        let polynomial = gram * b + squared * c;
        x = x.clone() * a + B::project_backward_input(polynomial, x);
    }
    if rows > columns { x.transpose() } else { x }
}
