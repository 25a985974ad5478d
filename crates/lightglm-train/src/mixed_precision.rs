//! `MixedPrecision`: products in half precision, everything else in f32.
//!
//! Shapes: `T` rows, `K` in_features, `N` out_features.

use burn::module::Module;
use burn::tensor::{DType, Tensor, backend::Backend};
use lightglm_core::{EffectiveWeight, Linear, MasterWeight, ReplaceWeight};
use lightglm_kernels::LmBackend;

/// A 16-bit precision of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfPrecision {
    /// bfloat16: the range of f32, so that losses need no scaling.
    Bf16,
    /// IEEE 754 binary16, for devices without bfloat16 (a T4). Gradients below 6e-8 become zero.
    F16,
}

impl HalfPrecision {
    /// The first of bfloat16 and binary16 that `device` computes in; `None` where it has neither.
    pub fn of<B: Backend>(device: &B::Device) -> Option<Self> {
        [Self::Bf16, Self::F16].into_iter().find(|half| B::supports_dtype(device, half.dtype()))
    }

    fn dtype(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// A projection whose product is computed in half precision: `y = f32(half(x) half(W)^T) + b`.
///
/// Weights that are trained stay f32 and are rounded at each use; frozen ones may be stored in half
/// precision. Residual stream, norms, softmax and loss stay f32. Worth it where the hardware multiplies
/// 16-bit numbers faster, which is to say on GPUs; it composes as other wrappers do: around a dense
/// projection, or as the base of a LoRA.
///
/// Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.1.
#[derive(Module, Debug)]
pub struct MixedPrecision<B: Backend, L: Module<B>> {
    /// The projection that knows the weight.
    pub inner: L,
    #[module(skip)]
    half: HalfPrecision,
    backend: core::marker::PhantomData<B>,
}

impl<B: Backend, L: EffectiveWeight<B>> MixedPrecision<B, L> {
    /// `inner` with its product in `half`.
    pub fn new(inner: L, half: HalfPrecision) -> Self {
        Self { inner, half, backend: core::marker::PhantomData }
    }
}

impl<B: LmBackend, L: EffectiveWeight<B>> Linear<B> for MixedPrecision<B, L> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let half = self.half.dtype();
        let weight = self.inner.weight();
        let weight = if weight.dtype() == half { weight } else { weight.cast(half) };
        let y = x.cast(half).matmul(weight.transpose()).cast(DType::F32);
        match self.inner.bias() {
            Some(bias) => y + bias.cast(DType::F32).unsqueeze(),
            None => y,
        }
    }

    fn shape(&self) -> [usize; 2] {
        self.inner.shape()
    }

    fn bytes_read(&self) -> usize {
        self.inner.bytes_read()
    }
}

impl<B: LmBackend, L: EffectiveWeight<B>> EffectiveWeight<B> for MixedPrecision<B, L> {
    fn weight(&self) -> Tensor<B, 2> {
        self.inner.weight()
    }

    fn bias(&self) -> Option<Tensor<B, 1>> {
        self.inner.bias()
    }
}

/// The weight before it is rounded to half precision.
impl<B: LmBackend, L: EffectiveWeight<B> + MasterWeight<B>> MasterWeight<B>
    for MixedPrecision<B, L>
{
    fn master_weight(&self) -> Tensor<B, 2> {
        self.inner.master_weight()
    }
}

impl<B: LmBackend, L: ReplaceWeight<B>> ReplaceWeight<B> for MixedPrecision<B, L> {
    fn with_weight(self, weight: Tensor<B, 2>) -> Self {
        Self { inner: self.inner.with_weight(weight), ..self }
    }
}
