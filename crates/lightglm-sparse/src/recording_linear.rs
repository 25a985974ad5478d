//! `RecordingLinear`: a projection that tells a [`Recorder`] what it is given.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::Linear;

use crate::{Recorder, Recording, SparsityPolicy};

/// Computes what `inner` computes, and records its inputs.
#[derive(Module, Debug)]
pub struct RecordingLinear<B: Backend, L: Module<B>> {
    /// The projection.
    pub inner: L,
    recording: Recording,
    backend: core::marker::PhantomData<B>,
}

impl<B: Backend, L: Linear<B>> RecordingLinear<B, L> {
    /// Records what `inner`, called `name`, is given.
    pub fn new(name: &str, inner: L, recorder: Arc<dyn Recorder>) -> Self {
        let recording = Recording::new(name, recorder);
        Self { inner, recording, backend: core::marker::PhantomData }
    }
}

impl<B: Backend, L: Linear<B>> Linear<B> for RecordingLinear<B, L> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.inner.forward(self.recording.apply(x))
    }

    fn shape(&self) -> [usize; 2] {
        self.inner.shape()
    }

    fn bytes_read(&self) -> usize {
        self.inner.bytes_read()
    }
}
