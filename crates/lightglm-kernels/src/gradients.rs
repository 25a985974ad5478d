//! `LmGradients`: the backward passes of the decoder's operations, and the optimizer's step.
//!
//! Shape letters as in [`crate::LmBackend`]; `R` labelled rows, `V` vocab_size.

use std::sync::Arc;

use burn::tensor::{Tensor, backend::Backend};

use crate::cpu::{AttentionShape, AttentionSpan};
use crate::extension::LmBackend;
use crate::packed::{self, PackedMatrix};
use crate::reference;
use crate::row_loss::RowLoss;

/// What training asks of a backend.
///
/// `Autodiff<B>` calls these for any `B` that has them. Every body is composed of plain burn
/// operations, so an empty `impl` qualifies a backend; tests hold each against the derivative that
/// burn takes of the plain forward pass. A backend overrides what it does faster.
pub trait LmGradients: LmBackend {
    /// `x W^T` for `x: [T, K]` and `weight: [N, K]`, the forward pass of a projection that is
    /// trained: like [`LmBackend::project`], but for many rows.
    fn project_forward(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        reference::project(x, weight, None)
    }

    /// Gradient of a projection with respect to `x: [T, K]`: `grad W` for `grad: [T, N]` and
    /// `weight: [N, K]`, which may be of 16 bits.
    fn project_backward_input(grad: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        reference::project_backward_input(grad, weight)
    }

    /// As [`Self::project_backward_input`], for a packed weight: the gradient past the rounding of the
    /// inputs, as if they had none.
    fn project_packed_backward_input(
        grad: Tensor<Self, 2>,
        weight: &PackedMatrix<Self>,
    ) -> Tensor<Self, 2> {
        Self::project_backward_input(grad, packed::reference::dequantize(weight))
    }

    /// Gradient of a projection with respect to its weight `[N, K]`: `grad^T x` for `grad: [T, N]`
    /// and `x: [T, K]`.
    fn project_backward_weight(grad: Tensor<Self, 2>, x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        reference::project_backward_weight(grad, x)
    }

    /// Gradients of [`LmBackend::rms_norm`] with respect to `x: [T, D]` and `weight: [D]`, for the
    /// output's gradient `grad: [T, D]`.
    ///
    /// ```text
    /// r = 1 / sqrt(mean(x^2) + eps),  h = weight * grad
    /// dx = r h - x r^3 mean(h x),     dweight = sum over rows of grad x r
    /// ```
    fn rms_norm_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        eps: f32,
        grad: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 1>) {
        reference::rms_norm_backward(x, weight, eps, grad)
    }

    /// Gradient of [`LmBackend::swiglu`] with respect to `gate_up: [T, 2F]`, for `grad: [T, F]`.
    ///
    /// ```text
    /// s = 1 / (1 + e^-gate)
    /// dgate = grad up s (1 + gate (1 - s)),  dup = grad gate s
    /// ```
    fn swiglu_backward(gate_up: Tensor<Self, 2>, grad: Tensor<Self, 2>) -> Tensor<Self, 2> {
        reference::swiglu_backward(gate_up, grad)
    }

    /// Gradients of [`LmBackend::attend`] with respect to `q: [T, H d]` and `k, v: [T, G d]`, for its
    /// output `out: [T, H d]` and that output's gradient.
    ///
    /// ```text
    /// dv = p^T grad,  dp = grad v^T,  ds = p (dp - rowsum(grad out)) / sqrt(d)
    /// dq = ds k,      dk = ds^T q
    /// ```
    ///
    /// Source: Dao et al. 2022, "FlashAttention", appendix B.2.
    fn attend_backward(
        qkv: [Tensor<Self, 2>; 3],
        out: Tensor<Self, 2>,
        grad: Tensor<Self, 2>,
        shape: AttentionShape,
        spans: &[AttentionSpan<'_>],
    ) -> [Tensor<Self, 2>; 3] {
        reference::attend_backward(qkv, out, grad, shape, spans)
    }

    /// Gradient of [`LmBackend::cross_entropy`] with respect to `logits: [R, V]`, for its result
    /// `losses: [R]` and that result's gradient `grad: [R]`.
    ///
    /// ```text
    /// dlogits[r, v] = grad[r] (softmax(logits[r])[v] - (v = targets[r]))
    /// ```
    fn cross_entropy_backward(
        logits: Tensor<Self, 2>,
        targets: &[u32],
        losses: Tensor<Self, 1>,
        grad: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        reference::cross_entropy_backward(logits, targets, losses, grad)
    }

    /// Gradient of [`LmBackend::row_losses`] with respect to `logits: [R, V]`, for its result's gradient
    /// `grad: [R]`.
    fn row_losses_backward(
        logits: Tensor<Self, 2>,
        loss: &Arc<dyn RowLoss>,
        grad: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        reference::row_losses_backward(logits, loss, grad)
    }

    /// Gradient of [`LmBackend::embed`] with respect to the table `[V, D]`, for `grad: [T, D]`.
    fn embed_backward(grad: Tensor<Self, 2>, ids: &[u32], rows: usize) -> Tensor<Self, 2> {
        reference::embed_backward(grad, ids, rows)
    }

    /// One step of AdamW on a parameter, all tensors of one length.
    ///
    /// ```text
    /// p <- p (1 - lr weight_decay)
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// p <- p - (lr / correction1) m / (sqrt(v) / sqrt(correction2) + eps)
    /// ```
    /// with `g = grad * grad_scale`.
    ///
    /// Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2;
    /// `torch.optim.AdamW`.
    fn adamw(state: AdamWState<Self>, grad: Tensor<Self, 1>, step: &AdamWStep) -> AdamWState<Self> {
        reference::adamw(state, grad, step)
    }

    /// The sum of squares of all elements, in f64 where the backend is the CPU.
    fn sum_of_squares(x: Tensor<Self, 1>) -> f64 {
        reference::sum_of_squares(x)
    }
}

/// A parameter and its moments, each `[elements]`.
#[derive(Clone, Debug)]
pub struct AdamWState<B: Backend> {
    /// The parameter.
    pub parameter: Tensor<B, 1>,
    /// Mean of gradients.
    pub first: Tensor<B, 1>,
    /// Mean of squared gradients.
    pub second: Tensor<B, 1>,
}

/// The numbers of one step of AdamW, the same for all elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// What the gradient is multiplied with first: one over the labels it is a sum of, and clipping.
    pub grad_scale: f32,
    /// `1 - lr weight_decay`.
    pub decay: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// `lr / (1 - beta1^t)`.
    pub step_size: f32,
    /// `sqrt(1 - beta2^t)`.
    pub second_root: f32,
    /// Added to the denominator.
    pub eps: f32,
}
