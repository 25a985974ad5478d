//! `QuantizedLinear`. Shapes: `T` rows, `N` out_features, `K` in_features.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{EffectiveWeight, Linear, MasterWeight, SliceError, SliceLinear};
use lightglm_kernels::{LmBackend, select_weight};

use super::MatrixWeight;

/// `y = x W^T + b` with a weight that is packed, or dense where a policy leaves it so.
#[derive(Module, Debug)]
pub struct QuantizedLinear<B: Backend> {
    /// `[N, K]`.
    pub weight: MatrixWeight<B>,
    /// `[N]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: LmBackend> Linear<B> for QuantizedLinear<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.weight.project(x, self.bias.as_ref().map(Param::val))
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    fn bytes_read(&self) -> usize {
        let bias = self.bias.as_ref();
        self.weight.bytes() + bias.map_or(0, |bias| bias.dims()[0] * bias.dtype().size())
    }
}

/// The unpacked weight: a copy.
impl<B: LmBackend> EffectiveWeight<B> for QuantizedLinear<B> {
    fn weight(&self) -> Tensor<B, 2> {
        self.weight.values()
    }

    fn bias(&self) -> Option<Tensor<B, 1>> {
        self.bias.as_ref().map(Param::val)
    }
}

impl<B: LmBackend> MasterWeight<B> for QuantizedLinear<B> {
    fn master_weight(&self) -> Tensor<B, 2> {
        self.weight.values()
    }
}

/// Rows are gathered with their scales. Inputs can be taken apart where the weight is dense.
impl<B: LmBackend> SliceLinear<B> for QuantizedLinear<B> {
    fn slice_outputs(&self, outputs: &[usize]) -> Result<Self, SliceError> {
        let [n, _] = self.shape();
        SliceError::check("output", outputs, n)?;
        let weight = match &self.weight {
            MatrixWeight::Dense(weight) => MatrixWeight::Dense(select_weight(weight, 0, outputs)),
            MatrixWeight::Packed(packed) => MatrixWeight::Packed(packed.select_rows(outputs)?),
        };
        let bias = self.bias.as_ref().map(|bias| select_weight(bias, 0, outputs));
        Ok(Self { weight, bias })
    }

    fn slice_inputs(&self, inputs: &[usize]) -> Result<Option<Self>, SliceError> {
        let [_, k] = self.shape();
        SliceError::check("input", inputs, k)?;
        let MatrixWeight::Dense(weight) = &self.weight else { return Ok(None) };
        let weight = MatrixWeight::Dense(select_weight(weight, 1, inputs));
        Ok(Some(Self { weight, bias: self.bias.clone() }))
    }
}
