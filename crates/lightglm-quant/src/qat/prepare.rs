//! `Prepare`: from a model's projections to fake-quantized ones.

use burn::module::Param;
use burn::tensor::Tensor;
use lightglm_core::EffectiveWeight;
use lightglm_kernels::LmBackend;

use super::{FakeQuantEmbedding, FakeQuantLinear, ScaleSource};
use crate::{Policy, QuantError};

/// Wraps a model's projections one by one, as a policy wants them.
#[derive(Debug)]
pub struct Prepare<'a> {
    policy: &'a Policy,
    scales: ScaleSource,
    int8_kv: Option<usize>,
    names: Vec<String>,
}

impl<'a> Prepare<'a> {
    /// With observed scales and a KV cache of numbers.
    pub fn new(policy: &'a Policy) -> Self {
        let (scales, int8_kv) = (ScaleSource::Observed, None);
        Self { policy, scales, int8_kv, names: Vec::new() }
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
    ///
    /// # Errors
    /// [`QuantError`] naming the projection.
    pub fn linear<B: LmBackend, L: EffectiveWeight<B>>(
        &mut self,
        name: &str,
        inner: L,
    ) -> Result<FakeQuantLinear<B, L>, QuantError> {
        self.names.push(name.to_owned());
        let cached = name.ends_with(".k_proj") || name.ends_with(".v_proj");
        let linear = FakeQuantLinear::new(name, inner, self.policy.scheme(name), self.scales)?;
        match self.int8_kv.filter(|_| cached) {
            Some(head_dim) => linear.with_output_heads(name, head_dim),
            None => Ok(linear),
        }
    }

    /// The embedding table `name` (without `.weight`), the head too where the two are tied, wrapped.
    ///
    /// # Errors
    /// As [`Self::linear`].
    pub fn embedding<B: LmBackend>(
        &mut self,
        name: &str,
        weight: Param<Tensor<B, 2>>,
    ) -> Result<FakeQuantEmbedding<B>, QuantError> {
        self.names.push(name.to_owned());
        FakeQuantEmbedding::new(name, weight, self.policy.scheme(name), self.scales)
    }

    /// Checks the policy against the projections and tables that were wrapped.
    ///
    /// # Errors
    /// [`QuantError::Policy`] where a rule matched none of them.
    pub fn finish(self) -> Result<(), QuantError> {
        Ok(self.policy.check_names(self.names.iter().map(String::as_str))?)
    }
}
