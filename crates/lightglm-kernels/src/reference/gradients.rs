//! Backward passes in plain burn operations: the specification of [`crate::LmGradients`].

use std::sync::Arc;

use burn::tensor::{DType, IndexingUpdateOp, Tensor, TensorData, activation, backend::Backend};

use super::{as_f32, causal_mask, indices};
use crate::cpu::{self, AttentionShape, AttentionSpan};
use crate::gradients::{AdamWState, AdamWStep};
use crate::row_loss::RowLoss;

/// See [`crate::LmGradients::project_backward_input`].
pub fn project_backward_input<B: Backend>(
    grad: Tensor<B, 2>,
    weight: Tensor<B, 2>,
) -> Tensor<B, 2> {
    grad.matmul(as_f32(weight))
}

/// See [`crate::LmGradients::project_backward_weight`].
pub fn project_backward_weight<B: Backend>(grad: Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    grad.transpose().matmul(x)
}

/// See [`crate::LmGradients::rms_norm_backward`].
pub fn rms_norm_backward<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    eps: f32,
    grad: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 1>) {
    let [_, d] = x.dims();
    let inverse = ((x.clone() * x.clone()).mean_dim(1) + eps).sqrt().recip();
    let normed = x * inverse.clone();
    let dweight = (grad.clone() * normed.clone()).sum_dim(0).reshape([d]);
    let h = grad * as_f32(weight).unsqueeze();
    let along = (h.clone() * normed.clone()).mean_dim(1);
    ((h - normed * along) * inverse, dweight)
}

/// See [`crate::LmGradients::swiglu_backward`].
pub fn swiglu_backward<B: Backend>(gate_up: Tensor<B, 2>, grad: Tensor<B, 2>) -> Tensor<B, 2> {
    let [_, two_f] = gate_up.dims();
    let gate = gate_up.clone().narrow(1, 0, two_f / 2);
    let up = gate_up.narrow(1, two_f / 2, two_f / 2);
    let s = activation::sigmoid(gate.clone());
    let silu = gate * s.clone();
    let dup = grad.clone() * silu.clone();
    let slope = s.clone() + silu.clone() - silu * s;
    Tensor::cat(vec![grad * up * slope, dup], 1)
}

/// See [`crate::LmGradients::cross_entropy_backward`].
pub fn cross_entropy_backward<B: Backend>(
    logits: Tensor<B, 2>,
    targets: &[u32],
    losses: Tensor<B, 1>,
    grad: Tensor<B, 1>,
) -> Tensor<B, 2> {
    let _ = losses;
    let [r, _] = logits.dims();
    let device = logits.device();
    let targets = indices::<B>(targets.iter().copied(), &device).reshape([r, 1]);
    let grad = grad.reshape([r, 1]);
    let wanted = grad.clone().neg();
    let scaled = activation::softmax(logits, 1) * grad;
    scaled.scatter(1, targets, wanted, IndexingUpdateOp::Add)
}

/// See [`crate::LmGradients::row_losses_backward`]: on the host.
pub fn row_losses_backward<B: Backend>(
    logits: Tensor<B, 2>,
    loss: &Arc<dyn RowLoss>,
    grad: Tensor<B, 1>,
) -> Tensor<B, 2> {
    let ([r, v], device) = (logits.dims(), logits.device());
    let mut out = vec![0.0; r * v];
    let grad = on_host(grad);
    cpu::row_losses_backward(&on_host(logits), &**loss, &grad, &mut out);
    Tensor::from_data(TensorData::new(out, [r, v]), (&device, DType::F32))
}

pub(super) fn on_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    let values = tensor.into_data().convert::<f32>().into_vec::<f32>();
    values.expect("they were converted to f32")
}

/// See [`crate::LmGradients::embed_backward`].
pub fn embed_backward<B: Backend>(grad: Tensor<B, 2>, ids: &[u32], rows: usize) -> Tensor<B, 2> {
    let [_, d] = grad.dims();
    let device = grad.device();
    let ids = indices::<B>(ids.iter().copied(), &device);
    let zeros = Tensor::zeros([rows, d], (&device, DType::F32));
    zeros.select_assign(0, ids, grad, IndexingUpdateOp::Add)
}

/// See [`crate::LmGradients::adamw`].
pub fn adamw<B: Backend>(
    state: AdamWState<B>,
    grad: Tensor<B, 1>,
    step: &AdamWStep,
) -> AdamWState<B> {
    let AdamWState { parameter, first, second } = state;
    let grad = grad * step.grad_scale;
    let parameter = parameter * step.decay;
    let first = first * step.beta1 + grad.clone() * (1.0 - step.beta1);
    let second = second * step.beta2 + grad.clone() * grad * (1.0 - step.beta2);
    let denominator = second.clone().sqrt() / step.second_root + step.eps;
    let parameter = parameter - first.clone() / denominator * step.step_size;
    AdamWState { parameter, first, second }
}

/// See [`crate::LmGradients::sum_of_squares`].
pub fn sum_of_squares<B: Backend>(x: Tensor<B, 1>) -> f64 {
    let sum = (x.clone() * x).sum().into_data();
    sum.convert::<f64>().to_vec::<f64>().map_or(f64::NAN, |sum| sum[0])
}

/// See [`crate::LmGradients::attend_backward`].
pub fn attend_backward<B: Backend>(
    [q, k, v]: [Tensor<B, 2>; 3],
    out: Tensor<B, 2>,
    grad: Tensor<B, 2>,
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
) -> [Tensor<B, 2>; 3] {
    let (g, d) = (shape.kv_heads, shape.head_dim);
    let group = shape.heads / g;
    let scale = 1.0 / (d as f64).sqrt();
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for span in spans {
        let t = span.rows;
        let rows = |x: &Tensor<B, 2>| x.clone().narrow(0, span.first_row, t);
        // Queries of a kv head below one another: [G, group t, d].
        let of_queries = |x: &Tensor<B, 2>| {
            rows(x).reshape([t, g, group, d]).permute([1, 2, 0, 3]).reshape([g, group * t, d])
        };
        let of_keys = |x: &Tensor<B, 2>| rows(x).reshape([t, g, d]).permute([1, 0, 2]);
        let (queries, outs, grads) = (of_queries(&q), of_queries(&out), of_queries(&grad));
        let (keys, values) = (of_keys(&k), of_keys(&v));
        let scores = queries.clone().matmul(keys.clone().swap_dims(1, 2)) * scale;
        let scores = scores.reshape([g, group, t, t]) + causal_mask(t, t, 0, &q.device());
        let p = activation::softmax(scores, 3).reshape([g, group * t, t]);
        let dv = p.clone().swap_dims(1, 2).matmul(grads.clone());
        let along = (grads.clone() * outs).sum_dim(2);
        let ds = p * (grads.matmul(values.swap_dims(1, 2)) - along) * scale;
        let dq = ds.clone().matmul(keys).reshape([g, group, t, d]).permute([2, 0, 1, 3]);
        let dk = ds.swap_dims(1, 2).matmul(queries);
        parts[0].push(dq.reshape([t, g * group * d]));
        parts[1].push(dk.permute([1, 0, 2]).reshape([t, g * d]));
        parts[2].push(dv.permute([1, 0, 2]).reshape([t, g * d]));
    }
    parts.map(|parts| Tensor::cat(parts, 0))
}
