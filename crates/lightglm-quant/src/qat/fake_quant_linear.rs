//! `FakeQuantLinear`. Shapes: `T` rows, `N` out_features, `K` in_features, `G` kv heads, `d` head_dim.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{EffectiveWeight, Linear, MasterWeight};
use lightglm_kernels::LmBackend;

use super::groups::untracked;
use super::{FakeQuantizer, ScaleSource, fake_quantize_rows};
use crate::{QuantError, QuantizedLinear, Scheme};

/// `y = fq(x) fq(W)^T + b`: a projection as it will be once it is packed, on numbers that gradients
/// pass.
///
/// `W` is whatever the projection inside says its weight is; gradients go on to what that is made of.
/// Where the scheme is dense, the projection inside runs as it is.
#[derive(Module, Debug)]
pub struct FakeQuantLinear<B: Backend, L: Module<B>> {
    /// What is wrapped.
    pub inner: L,
    /// Its fake quantization.
    pub quantizer: FakeQuantizer<B>,
    /// `d`, where `y: [T, G d]` is quantized as well, to eight bits per head and token: the values,
    /// and (before their rotation) the keys of an eight-bit KV cache.
    pub output_heads: Option<usize>,
}

impl<B: LmBackend, L: EffectiveWeight<B>> FakeQuantLinear<B, L> {
    /// Wraps `inner`, which errors call `name`.
    ///
    /// # Errors
    /// As [`FakeQuantizer::new`].
    pub fn new(
        name: &str,
        inner: L,
        scheme: Scheme,
        scales: ScaleSource,
    ) -> Result<Self, QuantError> {
        let quantizer = match scheme {
            Scheme::Dense => FakeQuantizer::dense(),
            Scheme::Quantized(_) => FakeQuantizer::new(name, &inner.weight(), scheme, scales)?,
        };
        Ok(Self { inner, quantizer, output_heads: None })
    }

    /// With its outputs quantized to eight bits per head of `head_dim` and token.
    ///
    /// # Errors
    /// [`QuantError::Heads`] where the outputs are no whole number of heads.
    pub fn with_output_heads(mut self, name: &str, head_dim: usize) -> Result<Self, QuantError> {
        check_heads(name, self.shape()[0], head_dim)?;
        self.output_heads = Some(head_dim);
        Ok(self)
    }

    /// The packed projection with the codes and scales that [`Linear::forward`] computes with. Its
    /// outputs are not quantized: that is the cache's work.
    ///
    /// # Errors
    /// As [`FakeQuantizer::matrix`].
    pub fn convert(&self, name: &str) -> Result<QuantizedLinear<B>, QuantError> {
        let bias = self.inner.bias().map(untracked).map(Param::from_tensor);
        Ok(QuantizedLinear { weight: self.quantizer.packed(name, self.inner.weight())?, bias })
    }
}

/// Whether `out_features` are a whole number of heads.
fn check_heads(name: &str, out_features: usize, head_dim: usize) -> Result<(), QuantError> {
    match head_dim > 0 && out_features.is_multiple_of(head_dim) {
        true => Ok(()),
        false => Err(QuantError::Heads { name: name.to_owned(), out_features, head_dim }),
    }
}

impl<B: LmBackend, L: EffectiveWeight<B>> Linear<B> for FakeQuantLinear<B, L> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = match self.quantizer.scheme() {
            Scheme::Dense => self.inner.forward(x),
            Scheme::Quantized(_) => {
                B::project(self.quantizer.activations(x), self.weight(), self.bias())
            }
        };
        match self.output_heads {
            Some(head_dim) => fake_quantize_rows(y, head_dim),
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

/// The weight as it comes back from quantization: what is left when the wrapper is merged away.
impl<B: LmBackend, L: EffectiveWeight<B>> EffectiveWeight<B> for FakeQuantLinear<B, L> {
    fn weight(&self) -> Tensor<B, 2> {
        self.quantizer.weight(self.inner.weight())
    }

    fn bias(&self) -> Option<Tensor<B, 1>> {
        self.inner.bias()
    }
}

/// The weight that is trained, unrounded.
impl<B: LmBackend, L: EffectiveWeight<B> + MasterWeight<B>> MasterWeight<B>
    for FakeQuantLinear<B, L>
{
    fn master_weight(&self) -> Tensor<B, 2> {
        self.inner.master_weight()
    }
}
