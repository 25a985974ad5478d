//! What lies between an encoder's matrix products, by the kernels of `lightglm-kernels`.

use lightglm_kernels::cpu;

use super::parameters::Norm;

/// `x = norm(x + residual)` for `x, residual: [T, D]`, without a residual `x = norm(x)`.
pub(super) fn add_and_norm(x: &mut [f32], residual: Option<&[f32]>, norm: &Norm) {
    cpu::layer_norm(x, residual, &norm.weight, &norm.bias, norm.eps);
}

/// Makes the length of a vector 1, as `torch.nn.functional.normalize` does.
pub(super) fn normalize(x: &mut [f32]) {
    let length = cpu::lane_sum(x, |x| x * x).sqrt().max(1e-12);
    x.iter_mut().for_each(|x| *x /= length);
}
