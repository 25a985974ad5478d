//! The burn backends that qualify as they are.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, unary};
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};

use crate::LmBackend;

/// Training differentiates the plain burn bodies, but for what costs nothing as an operation of its
/// own.
impl<B: LmBackend, C: CheckpointStrategy> LmBackend for Autodiff<B, C> {
    fn straight_through<const D: usize>(
        value: Tensor<Self, D>,
        carrier: Tensor<Self, D>,
    ) -> Tensor<Self, D> {
        let value = value.into_primitive().tensor().primitive;
        let carrier = carrier.into_primitive().tensor();
        let operation = StraightThrough.prepare::<C>([carrier.node]).compute_bound();
        Tensor::from_primitive(TensorPrimitive::Float(operation.stateless(value)))
    }
}

/// Hands the gradient on as it is.
#[derive(Debug)]
struct StraightThrough;

impl<B: Backend> Backward<B, 1> for StraightThrough {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| gradient);
    }
}

#[cfg(feature = "wgpu")]
impl LmBackend for burn::backend::Wgpu {}

#[cfg(feature = "cuda")]
impl LmBackend for burn::backend::Cuda {}
