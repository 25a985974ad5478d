//! `Prepare`: from a model's projections to fake-quantized ones.

use burn::module::Param;
use burn::tensor::Tensor;
use lightglm_core::EffectiveWeight;
use lightglm_kernels::LmBackend;

use super::fake_quant_linear::check_heads;
use super::{FakeQuantEmbedding, FakeQuantLinear, FakeQuantizer, ScaleSource};
use crate::{Policy, QuantError, Scheme};

/// Wraps a model's projections one by one, as a policy wants them.
///
/// What maps over a model's projections cannot fail halfway, so the first error is kept for
/// [`Self::finish`]; the projection at fault stays as it is.
#[derive(Debug)]
pub struct Prepare<'a> {
    policy: &'a Policy,
    scales: ScaleSource,
    int8_kv: Option<usize>,
    names: Vec<String>,
    error: Option<QuantError>,
}

impl<'a> Prepare<'a> {
    /// With observed scales and a KV cache of numbers.
    pub fn new(policy: &'a Policy) -> Self {
        let (scales, int8_kv) = (ScaleSource::Observed, None);
        Self { policy, scales, int8_kv, names: Vec::new(), error: None }
    }

    /// With scales from `scales`.
    pub fn with_scales(mut self, scales: ScaleSource) -> Self {
        self.scales = scales;
        self
    }

    /// With the outputs of `k_proj` and `v_proj` quantized per head of `head_dim` and token, as in an
    /// eight-bit KV cache: exactly for values, near it for keys (see the [module](super)).
    pub fn with_int8_kv(mut self, head_dim: usize) -> Self {
        self.int8_kv = Some(head_dim);
        self
    }

    /// The projection `name` (without `.weight`), wrapped.
    pub fn linear<B: LmBackend, L: EffectiveWeight<B>>(
        &mut self,
        name: &str,
        inner: L,
    ) -> FakeQuantLinear<B, L> {
        self.names.push(name.to_owned());
        let cached = name.ends_with(".k_proj") || name.ends_with(".v_proj");
        let heads = self.int8_kv.filter(|_| cached);
        let checked = heads.map(|head_dim| check_heads(name, inner.shape()[0], head_dim));
        let checked = checked.transpose().map(|_| heads);
        let output_heads = self.or_first_error(checked).flatten();
        let scheme = self.policy.scheme(name);
        let quantizer = match scheme {
            // What a dense projection's weight is need not be written down.
            Scheme::Dense => Ok(FakeQuantizer::dense()),
            _ => FakeQuantizer::new(name, &inner.weight(), scheme, self.scales),
        };
        let quantizer = self.or_first_error(quantizer).unwrap_or_else(FakeQuantizer::dense);
        FakeQuantLinear { inner, quantizer, output_heads }
    }

    /// The embedding table `name` (without `.weight`), the head too where the two are tied, wrapped.
    pub fn embedding<B: LmBackend>(
        &mut self,
        name: &str,
        weight: Param<Tensor<B, 2>>,
    ) -> FakeQuantEmbedding<B> {
        self.names.push(name.to_owned());
        let scheme = self.policy.scheme(name);
        let quantizer = FakeQuantizer::new(name, &weight.val(), scheme, self.scales);
        let quantizer = self.or_first_error(quantizer).unwrap_or_else(FakeQuantizer::dense);
        FakeQuantEmbedding { weight, quantizer }
    }

    /// Says whether all went well.
    ///
    /// # Errors
    /// The first [`QuantError`] of a projection or table; [`QuantError::Policy`] where a rule matched
    /// none of them.
    pub fn finish(self) -> Result<(), QuantError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.policy.check_names(self.names.iter().map(String::as_str))?),
        }
    }

    fn or_first_error<T>(&mut self, result: Result<T, QuantError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }
}
