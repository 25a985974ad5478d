//! `RecordingLinear`: a projection that tells a [`Calibration`] what it is given.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::Linear;

use crate::Calibration;

/// Computes what `inner` computes, and records its inputs.
#[derive(Module, Debug)]
pub struct RecordingLinear<B: Backend, L: Module<B>> {
    /// The projection.
    pub inner: L,
    #[module(skip)]
    name: String,
    #[module(skip)]
    calibration: Arc<Calibration>,
    #[module(skip)]
    backend: core::marker::PhantomData<B>,
}

impl<B: Backend, L: Linear<B>> RecordingLinear<B, L> {
    /// Records what `inner`, called `name`, is given.
    pub fn new(name: &str, inner: L, calibration: Arc<Calibration>) -> Self {
        Self { inner, name: name.to_owned(), calibration, backend: core::marker::PhantomData }
    }
}

impl<B: Backend, L: Linear<B>> Linear<B> for RecordingLinear<B, L> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [_, width] = x.dims();
        let rows: Vec<f32> = x.to_data().iter::<f32>().collect();
        // A failure is kept by the calibration and returned where thresholds are asked for.
        let _ = self.calibration.record(&self.name, &rows, width);
        self.inner.forward(x)
    }

    fn shape(&self) -> [usize; 2] {
        self.inner.shape()
    }

    fn bytes_read(&self) -> usize {
        self.inner.bytes_read()
    }
}
