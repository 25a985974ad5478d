//! `QuantizedLinear`. Shapes: `T` rows, `N` out_features, `K` in_features.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::Linear;
use lightglm_kernels::LmBackend;

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
