//! `MatrixWeight`: packed or dense. Shapes: `N` out_features, `K` in_features.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_kernels::packed::reference;
use lightglm_kernels::{LmBackend, PackedMatrix};

/// A matrix `[N, K]`, quantized or as its checkpoint stored it.
#[expect(clippy::large_enum_variant, reason = "most are packed, and a model has a few hundred")]
#[derive(Module, Debug)]
pub enum MatrixWeight<B: Backend> {
    /// `[N, K]` in f32, f16 or bf16.
    Dense(Param<Tensor<B, 2>>),
    /// Codes and scales.
    Packed(PackedMatrix<B>),
}

impl<B: LmBackend> MatrixWeight<B> {
    /// `[N, K]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.dims(),
            Self::Packed(packed) => packed.shape(),
        }
    }

    /// Bytes of the elements, or of codes, scales and minimums.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.shape().num_elements() * weight.dtype().size(),
            Self::Packed(packed) => packed.bytes(),
        }
    }

    /// The values, unpacked in f32 where they are packed: `[N, K]`.
    pub fn values(&self) -> Tensor<B, 2> {
        match self {
            Self::Dense(weight) => weight.val(),
            Self::Packed(packed) => reference::dequantize(packed),
        }
    }

    /// `y = x W^T + b`: `x: [T, K]`, `bias: [N]` -> `[T, N]`.
    pub(super) fn project(&self, x: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Tensor<B, 2> {
        match self {
            Self::Dense(weight) => B::project(x, weight.val(), bias),
            Self::Packed(packed) => B::project_packed(x, packed, bias),
        }
    }
}
