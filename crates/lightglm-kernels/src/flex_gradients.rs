//! burn-flex: backward passes and the optimizer's step on slices.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_flex::Flex;

use crate::cpu::{self, AttentionShape, AttentionSpan, MatrixRef, Weights};
use crate::flex::{PackedParts, contiguous, floats, from_vec, take, tensor_of, weights};
use crate::gradients::{AdamWState, AdamWStep, LmGradients};
use crate::packed::{self, PackedMatrix};
use crate::reference;
use crate::row_loss::RowLoss;

impl LmGradients for Flex {
    fn project_forward(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let ([t, k], [n, _]) = (x.dims(), weight.dims());
        let (x, weight) = (contiguous(x), contiguous(weight));
        let (Some(rows), Some(matrix)) = (x.as_slice::<f32>(), weights(&weight)) else {
            return reference::project(tensor_of(x), tensor_of(weight), None);
        };
        let rows = MatrixRef::new(Weights::F32(rows), [t, k]);
        let matrix = MatrixRef::new(matrix, [n, k]).transposed();
        from_vec(cpu::product_to_vec(rows, matrix), [t, n])
    }

    fn project_backward_input(grad: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let ([t, n], [_, k]) = (grad.dims(), weight.dims());
        let (grad, weight) = (contiguous(grad), contiguous(weight));
        let (Some(rows), Some(matrix)) = (grad.as_slice::<f32>(), weights(&weight)) else {
            return reference::project_backward_input(tensor_of(grad), tensor_of(weight));
        };
        let rows = MatrixRef::new(Weights::F32(rows), [t, n]);
        from_vec(cpu::product_to_vec(rows, MatrixRef::new(matrix, [n, k])), [t, k])
    }

    /// A few rows of the weight at a time are unpacked and forgotten again. The bits are those of the
    /// whole product: an element is one chain of multiply-adds over the rows.
    fn project_packed_backward_input(
        grad: Tensor<Self, 2>,
        weight: &PackedMatrix<Self>,
    ) -> Tensor<Self, 2> {
        /// Elements that are unpacked at a time: 8 MiB.
        const UNPACKED: usize = 2 << 20;
        let ([t, n], [_, k]) = (grad.dims(), weight.shape());
        let grad = contiguous(grad);
        let parts = PackedParts::new(weight);
        let (Some(rows), Some(matrix)) = (grad.as_slice::<f32>(), parts.view(weight)) else {
            let dense = packed::reference::dequantize(weight);
            return reference::project_backward_input(tensor_of(grad), dense);
        };
        let block = (UNPACKED / k.max(1)).clamp(1, n.max(1));
        let (mut unpacked, mut out) = (vec![0.0; block * k], vec![0.0; t * k]);
        for first in (0..n).step_by(block) {
            let ids: Vec<u32> = (first..n.min(first + block)).map(|row| row as u32).collect();
            let unpacked = &mut unpacked[..ids.len() * k];
            cpu::gather_packed_rows(&matrix, &ids, unpacked);
            if t > 0 {
                let grad = Weights::F32(&rows[first..]);
                let grad = MatrixRef::with_stride(grad, [t, ids.len()], n);
                let unpacked = MatrixRef::new(Weights::F32(unpacked), [ids.len(), k]);
                cpu::product(grad, unpacked, &mut out, first > 0);
            }
        }
        from_vec(out, [t, k])
    }

    fn project_backward_weight(grad: Tensor<Self, 2>, x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let ([t, n], [_, k]) = (grad.dims(), x.dims());
        let (grad, x) = (contiguous(grad), contiguous(x));
        let (Some(rows), Some(inputs)) = (grad.as_slice::<f32>(), x.as_slice::<f32>()) else {
            return reference::project_backward_weight(tensor_of(grad), tensor_of(x));
        };
        let rows = MatrixRef::new(Weights::F32(rows), [t, n]).transposed();
        let inputs = MatrixRef::new(Weights::F32(inputs), [t, k]);
        from_vec(cpu::product_to_vec(rows, inputs), [n, k])
    }

    fn rms_norm_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        eps: f32,
        grad: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 1>) {
        let shape = x.dims();
        let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
        let (mut dx, mut dweight) = (vec![0.0; shape[0] * shape[1]], vec![0.0; shape[1]]);
        let (x, weight, grad) = (floats(&x), floats(&weight), floats(&grad));
        cpu::rms_norm_backward(x, weight, eps, grad, &mut dx, &mut dweight);
        (from_vec(dx, shape), from_vec(dweight, [shape[1]]))
    }

    fn swiglu_backward(gate_up: Tensor<Self, 2>, grad: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let [t, two_f] = gate_up.dims();
        let (gate_up, grad) = (contiguous(gate_up), contiguous(grad));
        let mut out = vec![0.0; t * two_f];
        cpu::swiglu_backward(floats(&gate_up), floats(&grad), two_f / 2, &mut out);
        from_vec(out, [t, two_f])
    }

    fn attend_backward(
        qkv: [Tensor<Self, 2>; 3],
        out: Tensor<Self, 2>,
        grad: Tensor<Self, 2>,
        shape: AttentionShape,
        spans: &[AttentionSpan<'_>],
    ) -> [Tensor<Self, 2>; 3] {
        let shapes = [qkv[0].dims(), qkv[1].dims(), qkv[2].dims()];
        let qkv = qkv.map(contiguous);
        let (out, grad) = (contiguous(out), contiguous(grad));
        let mut gradients = shapes.map(|[t, width]| vec![0.0; t * width]);
        let [dq, dk, dv] = &mut gradients;
        let inputs = [floats(&qkv[0]), floats(&qkv[1]), floats(&qkv[2])];
        let (out, grad) = (floats(&out), floats(&grad));
        cpu::attention_backward(inputs, out, grad, shape, spans, [dq, dk, dv]);
        let [dq, dk, dv] = gradients;
        [from_vec(dq, shapes[0]), from_vec(dk, shapes[1]), from_vec(dv, shapes[2])]
    }

    fn cross_entropy_backward(
        logits: Tensor<Self, 2>,
        targets: &[u32],
        losses: Tensor<Self, 1>,
        grad: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        let shape = logits.dims();
        let (logits, losses, grad) = (contiguous(logits), contiguous(losses), contiguous(grad));
        let mut out = vec![0.0; shape[0] * shape[1]];
        let (losses, grad) = (floats(&losses), floats(&grad));
        cpu::cross_entropy_backward(floats(&logits), targets, losses, grad, &mut out);
        from_vec(out, shape)
    }

    fn row_losses_backward(
        logits: Tensor<Self, 2>,
        loss: &Arc<dyn RowLoss>,
        grad: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        let shape = logits.dims();
        let (logits, grad) = (contiguous(logits), contiguous(grad));
        let mut out = vec![0.0; shape[0] * shape[1]];
        cpu::row_losses_backward(floats(&logits), &**loss, floats(&grad), &mut out);
        from_vec(out, shape)
    }

    fn embed_backward(grad: Tensor<Self, 2>, ids: &[u32], rows: usize) -> Tensor<Self, 2> {
        let [_, d] = grad.dims();
        let grad = contiguous(grad);
        let mut out = vec![0.0; rows * d];
        if d > 0 {
            for (&id, grad) in ids.iter().zip(floats(&grad).chunks_exact(d)) {
                let row = &mut out[id as usize * d..][..d];
                row.iter_mut().zip(grad).for_each(|(sum, g)| *sum += g);
            }
        }
        from_vec(out, [rows, d])
    }

    fn adamw(state: AdamWState<Self>, grad: Tensor<Self, 1>, step: &AdamWStep) -> AdamWState<Self> {
        let AdamWState { mut parameter, mut first, mut second } = state;
        let grad = contiguous(grad);
        let [mut p, mut m, mut v] = [&mut parameter, &mut first, &mut second].map(take);
        let (parameter, first) = (p.storage_mut::<f32>(), m.storage_mut::<f32>());
        cpu::adamw(parameter, first, v.storage_mut::<f32>(), floats(&grad), step);
        AdamWState { parameter: tensor_of(p), first: tensor_of(m), second: tensor_of(v) }
    }

    fn sum_of_squares(x: Tensor<Self, 1>) -> f64 {
        cpu::sum_of_squares(floats(&contiguous(x)))
    }
}
