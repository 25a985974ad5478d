//! The plainest projection.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{Linear, SliceError, SliceLinear};
use lightglm_kernels::{LmBackend, select_weight};

/// A projection in f32 whose inputs cannot be taken apart.
#[derive(Module, Debug)]
pub(crate) struct Plain<B: Backend> {
    pub(crate) weight: Param<Tensor<B, 2>>,
}

impl<B: LmBackend> Linear<B> for Plain<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::project(x, self.weight.val(), None)
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    fn bytes_read(&self) -> usize {
        let [n, k] = self.weight.dims();
        4 * n * k
    }
}

impl<B: LmBackend> SliceLinear<B> for Plain<B> {
    fn slice_outputs(&self, outputs: &[usize]) -> Result<Self, SliceError> {
        SliceError::check("output", outputs, self.weight.dims()[0])?;
        Ok(Self { weight: select_weight(&self.weight, 0, outputs) })
    }

    fn slice_inputs(&self, inputs: &[usize]) -> Result<Option<Self>, SliceError> {
        SliceError::check("input", inputs, self.weight.dims()[1]).map(|()| None)
    }
}
