//! `SparseLinear`. Shapes: `T` rows, `N` out_features, `K` in_features.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{Linear, SliceError, SliceLinear};

use crate::SparsityPolicy;

/// A projection of what a policy leaves of its input.
#[derive(Module, Debug)]
pub struct SparseLinear<B: Backend, L: Module<B>, P: Module<B>> {
    /// `[N, K]`.
    pub inner: L,
    /// What is active.
    pub policy: P,
    backend: core::marker::PhantomData<B>,
}

impl<B: Backend, L: Linear<B>, P: SparsityPolicy<B>> SparseLinear<B, L, P> {
    /// Puts `policy` before `inner`.
    pub fn new(inner: L, policy: P) -> Self {
        Self { inner, policy, backend: core::marker::PhantomData }
    }
}

impl<B: Backend, L: Linear<B>, P: SparsityPolicy<B>> Linear<B> for SparseLinear<B, L, P> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.inner.forward(self.policy.apply(x))
    }

    fn shape(&self) -> [usize; 2] {
        self.inner.shape()
    }

    /// Of the whole projection: how much less is read depends on the token.
    fn bytes_read(&self) -> usize {
        self.inner.bytes_read()
    }
}

/// Inputs stay together: a policy may know its channels by their place.
impl<B: Backend, L: SliceLinear<B>, P: SparsityPolicy<B>> SliceLinear<B> for SparseLinear<B, L, P> {
    fn slice_outputs(&self, outputs: &[usize]) -> Result<Self, SliceError> {
        Ok(Self::new(self.inner.slice_outputs(outputs)?, self.policy.clone()))
    }

    fn slice_inputs(&self, inputs: &[usize]) -> Result<Option<Self>, SliceError> {
        let [_, k] = self.shape();
        SliceError::check("input", inputs, k).map(|()| None)
    }
}
