//! `Autodiff<B>`: the decoder's operations as single nodes of the graph.
//!
//! Composed of plain operations, a norm or an attention is a dozen nodes that keep a dozen tensors of
//! the size of the activations, and as many passes over memory. As a node of its own it keeps its
//! inputs, and its backward pass is one call of [`LmGradients`].

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::module::AutodiffModule;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};

use crate::cpu::{AttentionShape, AttentionSpan};
use crate::extension::LmBackend;
use crate::gradients::LmGradients;
use crate::packed::PackedMatrix;
use crate::reference;
use crate::row_loss::RowLoss;

impl<B: LmGradients, C: CheckpointStrategy> LmBackend for Autodiff<B, C> {
    fn embed(weight: Tensor<Self, 2>, ids: &[u32]) -> Tensor<Self, 2> {
        let [rows, _] = weight.dims();
        let weight = tracked(weight);
        let prep = Embed.prepare::<C>([weight.node.clone()]).compute_bound();
        let out = raw(B::embed(plain(weight.primitive), ids));
        wrap(match prep.stateful() {
            OpsKind::Tracked(prep) => prep.finish((ids.to_vec(), rows), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        })
    }

    fn project(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let y = multiply::<B, C>(x, weight);
        match bias {
            Some(bias) => y + reference::as_f32(bias).unsqueeze(),
            None => y,
        }
    }

    /// Gradients reach `x` past its rounding, as if it had none; the weight is frozen.
    fn project_packed(
        x: Tensor<Self, 2>,
        weight: &PackedMatrix<Self>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let (x, weight) = (tracked(x), weight.valid());
        let prep = MultiplyPacked.prepare::<C>([x.node.clone()]).compute_bound();
        let out = raw(B::project_packed(plain(x.primitive), &weight, None));
        let y = wrap(match prep.stateful() {
            OpsKind::Tracked(prep) => prep.finish(weight, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        });
        match bias {
            Some(bias) => y + reference::as_f32(bias).unsqueeze(),
            None => y,
        }
    }

    fn embed_packed(weight: &PackedMatrix<Self>, ids: &[u32]) -> Tensor<Self, 2> {
        Tensor::from_inner(B::embed_packed(&weight.valid(), ids))
    }

    fn rms_norm(x: Tensor<Self, 2>, weight: Tensor<Self, 1>, eps: f32) -> Tensor<Self, 2> {
        let (x, weight) = (tracked(x), tracked(weight));
        let prep = RmsNorm.prepare::<C>([x.node.clone(), weight.node.clone()]).compute_bound();
        let state = (x.primitive.clone(), weight.primitive.clone(), eps);
        let out = raw(B::rms_norm(plain(x.primitive), plain(weight.primitive), eps));
        wrap(match prep.stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        })
    }

    fn swiglu(gate_up: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let gate_up = tracked(gate_up);
        let prep = SwiGlu.prepare::<C>([gate_up.node.clone()]).compute_bound();
        let state = gate_up.primitive.clone();
        let out = raw(B::swiglu(plain(gate_up.primitive)));
        wrap(match prep.stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        })
    }

    fn rotary(
        x: Tensor<Self, 2>,
        cos: Tensor<Self, 2>,
        sin: Tensor<Self, 2>,
        head_dim: usize,
    ) -> Tensor<Self, 2> {
        let x = tracked(x);
        let (cos, sin) = (tracked(cos).primitive, tracked(sin).primitive);
        let prep = Rotary.prepare::<C>([x.node.clone()]).compute_bound();
        let state = (cos.clone(), sin.clone(), head_dim);
        let out = raw(B::rotary(plain(x.primitive), plain(cos), plain(sin), head_dim));
        wrap(match prep.stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        })
    }

    fn attend(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 2>,
        v: Tensor<Self, 2>,
        shape: AttentionShape,
        spans: &[AttentionSpan<'_>],
    ) -> Tensor<Self, 2> {
        let [q, k, v] = [q, k, v].map(tracked);
        let nodes = [q.node.clone(), k.node.clone(), v.node.clone()];
        let prep = Attend.prepare::<C>(nodes).compute_bound();
        let [q, k, v] = [q.primitive, k.primitive, v.primitive];
        let inputs = [q.clone(), k.clone(), v.clone()];
        let out = raw(B::attend(plain(q), plain(k), plain(v), shape, spans));
        wrap(match prep.stateful() {
            OpsKind::Tracked(prep) => {
                let rows = spans.iter().map(|span| (span.first_row, span.rows)).collect();
                let state = AttendState { inputs, out: out.clone(), shape, rows };
                prep.finish(state, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        })
    }

    fn cross_entropy(logits: Tensor<Self, 2>, targets: &[u32]) -> Tensor<Self, 1> {
        let logits = tracked(logits);
        let prep = CrossEntropy.prepare::<C>([logits.node.clone()]).compute_bound();
        let kept = logits.primitive.clone();
        let out = raw(B::cross_entropy(plain(logits.primitive), targets));
        wrap(match prep.stateful() {
            OpsKind::Tracked(prep) => prep.finish((kept, targets.to_vec(), out.clone()), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        })
    }

    fn row_losses(logits: Tensor<Self, 2>, loss: &Arc<dyn RowLoss>) -> Tensor<Self, 1> {
        let logits = tracked(logits);
        let prep = RowLosses.prepare::<C>([logits.node.clone()]).compute_bound();
        let kept = logits.primitive.clone();
        let out = raw(B::row_losses(plain(logits.primitive), loss));
        wrap(match prep.stateful() {
            OpsKind::Tracked(prep) => prep.finish((kept, loss.clone()), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        })
    }

    fn straight_through<const D: usize>(
        value: Tensor<Self, D>,
        carrier: Tensor<Self, D>,
    ) -> Tensor<Self, D> {
        let (value, carrier) = (tracked(value).primitive, tracked(carrier));
        let prep = StraightThrough.prepare::<C>([carrier.node]).compute_bound();
        Tensor::from_primitive(TensorPrimitive::Float(prep.stateless(value)))
    }
}

/// `x W^T`; a weight of 16 bits is kept as it is.
fn multiply<B: LmGradients, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 2>,
    weight: Tensor<Autodiff<B, C>, 2>,
) -> Tensor<Autodiff<B, C>, 2> {
    let (x, weight) = (tracked(x), tracked(weight));
    let prep = Multiply.prepare::<C>([x.node.clone(), weight.node.clone()]).compute_bound();
    let (input, matrix) = (plain::<B, 2>(x.primitive.clone()), plain(weight.primitive.clone()));
    let out = raw(B::project_forward(input, matrix));
    wrap(match prep.stateful() {
        OpsKind::Tracked(prep) => {
            // An input is kept only for the other one's gradient.
            let input = weight.is_tracked().then(|| x.primitive.clone());
            let matrix = x.is_tracked().then(|| weight.primitive.clone());
            prep.finish((input, matrix), out)
        }
        OpsKind::UnTracked(prep) => prep.finish(out),
    })
}

/// What an autodiff backend calls a tensor.
type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

fn tracked<B: Backend, C: CheckpointStrategy, const D: usize>(
    x: Tensor<Autodiff<B, C>, D>,
) -> Tracked<B, C> {
    x.into_primitive().tensor()
}

fn wrap<B: Backend, C: CheckpointStrategy, const D: usize>(
    x: Tracked<B, C>,
) -> Tensor<Autodiff<B, C>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

fn plain<B: Backend, const D: usize>(x: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

fn raw<B: Backend, const D: usize>(x: Tensor<B, D>) -> FloatTensor<B> {
    x.into_primitive().tensor()
}

#[derive(Debug)]
struct Embed;

impl<B: LmGradients> Backward<B, 1> for Embed {
    type State = (Vec<u32>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 2>(grads.consume::<B>(&ops.node));
        let ([weight], (ids, rows)) = (ops.parents, ops.state);
        if let Some(weight) = weight {
            grads.register::<B>(weight.id, raw(B::embed_backward(grad, &ids, rows)));
        }
    }
}

#[derive(Debug)]
struct Multiply;

impl<B: LmGradients> Backward<B, 2> for Multiply {
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 2>(grads.consume::<B>(&ops.node));
        let ([x, weight], (input, matrix)) = (ops.parents, ops.state);
        if let (Some(weight), Some(input)) = (weight, input) {
            let gradient = B::project_backward_weight(grad.clone(), plain(input));
            grads.register::<B>(weight.id, raw(gradient));
        }
        if let (Some(x), Some(matrix)) = (x, matrix) {
            let gradient = B::project_backward_input(grad, plain(matrix));
            grads.register::<B>(x.id, raw(gradient));
        }
    }
}

#[derive(Debug)]
struct MultiplyPacked;

impl<B: LmGradients> Backward<B, 1> for MultiplyPacked {
    type State = PackedMatrix<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 2>(grads.consume::<B>(&ops.node));
        let [x] = ops.parents;
        if let Some(x) = x {
            grads.register::<B>(x.id, raw(B::project_packed_backward_input(grad, &ops.state)));
        }
    }
}

#[derive(Debug)]
struct RmsNorm;

impl<B: LmGradients> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 2>(grads.consume::<B>(&ops.node));
        let ([x, weight], (input, scale, eps)) = (ops.parents, ops.state);
        let (dx, dweight) = B::rms_norm_backward(plain(input), plain(scale), eps, grad);
        if let Some(x) = x {
            grads.register::<B>(x.id, raw(dx));
        }
        if let Some(weight) = weight {
            grads.register::<B>(weight.id, raw(dweight));
        }
    }
}

#[derive(Debug)]
struct SwiGlu;

impl<B: LmGradients> Backward<B, 1> for SwiGlu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 2>(grads.consume::<B>(&ops.node));
        let [gate_up] = ops.parents;
        if let Some(gate_up) = gate_up {
            let gradient = B::swiglu_backward(plain(ops.state), grad);
            grads.register::<B>(gate_up.id, raw(gradient));
        }
    }
}

/// A rotation's derivative is the rotation back.
#[derive(Debug)]
struct Rotary;

impl<B: LmGradients> Backward<B, 1> for Rotary {
    type State = (FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 2>(grads.consume::<B>(&ops.node));
        let ([x], (cos, sin, head_dim)) = (ops.parents, ops.state);
        if let Some(x) = x {
            let back = plain::<B, 2>(sin).neg();
            grads.register::<B>(x.id, raw(B::rotary(grad, plain(cos), back, head_dim)));
        }
    }
}

#[derive(Debug)]
struct Attend;

#[derive(Clone, Debug)]
struct AttendState<B: Backend> {
    inputs: [FloatTensor<B>; 3],
    out: FloatTensor<B>,
    shape: AttentionShape,
    /// First row and number of rows of each span.
    rows: Vec<(usize, usize)>,
}

impl<B: LmGradients> Backward<B, 3> for Attend {
    type State = AttendState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 2>(grads.consume::<B>(&ops.node));
        let AttendState { inputs, out, shape, rows } = ops.state;
        let span = |(first_row, rows)| AttentionSpan { first_row, rows, past: 0, block_table: &[] };
        let spans: Vec<_> = rows.into_iter().map(span).collect();
        let inputs = inputs.map(plain);
        let gradients = B::attend_backward(inputs, plain(out), grad, shape, &spans);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, raw(gradient));
            }
        }
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: LmGradients> Backward<B, 1> for CrossEntropy {
    type State = (FloatTensor<B>, Vec<u32>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 1>(grads.consume::<B>(&ops.node));
        let ([logits], (kept, targets, losses)) = (ops.parents, ops.state);
        if let Some(logits) = logits {
            let gradient = B::cross_entropy_backward(plain(kept), &targets, plain(losses), grad);
            grads.register::<B>(logits.id, raw(gradient));
        }
    }
}

#[derive(Debug)]
struct RowLosses;

impl<B: LmGradients> Backward<B, 1> for RowLosses {
    type State = (FloatTensor<B>, Arc<dyn RowLoss>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = plain::<B, 1>(grads.consume::<B>(&ops.node));
        let ([logits], (kept, loss)) = (ops.parents, ops.state);
        if let Some(logits) = logits {
            let gradient = B::row_losses_backward(plain(kept), &loss, grad);
            grads.register::<B>(logits.id, raw(gradient));
        }
    }
}

/// Hands the gradient on as it is.
#[derive(Debug)]
struct StraightThrough;

impl<B: Backend> Backward<B, 1> for StraightThrough {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [carrier] = ops.parents;
        if let Some(carrier) = carrier {
            grads.register::<B>(carrier.id, grad);
        }
    }
}
