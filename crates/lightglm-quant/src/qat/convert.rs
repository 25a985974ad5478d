//! `Convert`: from fake-quantized projections to packed ones.

use burn::module::Param;
use lightglm_core::EffectiveWeight;
use lightglm_kernels::LmBackend;

use super::groups::untracked;
use super::{FakeQuantEmbedding, FakeQuantLinear, FakeQuantizer, TrainedScales};
use crate::{MatrixWeight, QuantError, QuantizedEmbedding, QuantizedLinear};

/// Packs a trained model's projections one by one, and gathers its learned scales on the way.
///
/// As with [`Prepare`](super::Prepare), the first error is kept for [`Self::finish`]; the projection
/// at fault stays dense.
#[derive(Debug, Default)]
pub struct Convert {
    scales: TrainedScales,
    error: Option<QuantError>,
}

impl Convert {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The projection `name` (without `.weight`), packed.
    pub fn linear<B: LmBackend, L: EffectiveWeight<B>>(
        &mut self,
        name: &str,
        linear: &FakeQuantLinear<B, L>,
    ) -> QuantizedLinear<B> {
        self.gather(name, &linear.quantizer);
        linear.convert(name).unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            let weight = Param::from_tensor(untracked(linear.inner.weight()));
            let bias = linear.inner.bias().map(untracked).map(Param::from_tensor);
            QuantizedLinear { weight: MatrixWeight::Dense(weight), bias }
        })
    }

    /// The embedding table `name` (without `.weight`), packed.
    pub fn embedding<B: LmBackend>(
        &mut self,
        name: &str,
        table: &FakeQuantEmbedding<B>,
    ) -> QuantizedEmbedding<B> {
        self.gather(name, &table.quantizer);
        table.convert(name).unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            QuantizedEmbedding { weight: MatrixWeight::Dense(table.weight.clone()) }
        })
    }

    /// The learned scales of what was packed; none where they were observed.
    ///
    /// # Errors
    /// The first [`QuantError`] of a projection or table.
    pub fn finish(self) -> Result<TrainedScales, QuantError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.scales),
        }
    }

    fn gather<B: LmBackend>(&mut self, name: &str, quantizer: &FakeQuantizer<B>) {
        if let Some((scales, minimums)) = quantizer.trained_scales() {
            self.scales.insert(name, scales, minimums);
        }
    }
}
