//! A projection in its stored precision.
//!
//! Shapes: `T` rows, `K` in_features, `N` out_features.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{
    EffectiveWeight, Linear, MasterWeight, ReplaceWeight, SliceError, SliceLinear,
};
use lightglm_kernels::{LmBackend, select_weight};

/// `y = x W^T + b` with `W: [N, K]` in f32, f16 or bf16.
///
/// On the CPU the weight may be a view of the mapped checkpoint; it is read where it lies.
#[derive(Module, Debug)]
pub struct DenseLinear<B: Backend> {
    /// `[N, K]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[N]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: LmBackend> Linear<B> for DenseLinear<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::project(x, self.weight.val(), self.bias.as_ref().map(Param::val))
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    fn bytes_read(&self) -> usize {
        let bias = self.bias.as_ref().map_or(0, |bias| bytes(&bias.val()));
        bytes(&self.weight.val()) + bias
    }
}

impl<B: LmBackend> EffectiveWeight<B> for DenseLinear<B> {
    fn weight(&self) -> Tensor<B, 2> {
        self.weight.val()
    }

    fn bias(&self) -> Option<Tensor<B, 1>> {
        self.bias.as_ref().map(Param::val)
    }
}

impl<B: LmBackend> MasterWeight<B> for DenseLinear<B> {
    fn master_weight(&self) -> Tensor<B, 2> {
        self.weight.val()
    }
}

impl<B: LmBackend> ReplaceWeight<B> for DenseLinear<B> {
    fn with_weight(self, weight: Tensor<B, 2>) -> Self {
        let (id, old, mapper) = self.weight.consume();
        let weight = weight.detach().cast(old.dtype()).set_require_grad(old.is_require_grad());
        Self { weight: Param::from_mapped_value(id, weight, mapper), bias: self.bias }
    }
}

impl<B: LmBackend> SliceLinear<B> for DenseLinear<B> {
    fn slice_outputs(&self, outputs: &[usize]) -> Result<Self, SliceError> {
        let [n, _] = self.shape();
        SliceError::check("output", outputs, n)?;
        let bias = self.bias.as_ref().map(|bias| select_weight(bias, 0, outputs));
        Ok(Self { weight: select_weight(&self.weight, 0, outputs), bias })
    }

    fn slice_inputs(&self, inputs: &[usize]) -> Result<Option<Self>, SliceError> {
        let [_, k] = self.shape();
        SliceError::check("input", inputs, k)?;
        let weight = select_weight(&self.weight, 1, inputs);
        Ok(Some(Self { weight, bias: self.bias.clone() }))
    }
}

/// Bytes of a tensor's elements.
pub(super) fn bytes<B: Backend, const D: usize>(x: &Tensor<B, D>) -> usize {
    x.shape().num_elements() * x.dtype().size()
}
