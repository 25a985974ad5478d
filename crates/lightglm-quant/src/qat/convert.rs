//! `Convert`: from fake-quantized projections to packed ones.

use lightglm_core::EffectiveWeight;
use lightglm_kernels::LmBackend;

use super::{FakeQuantEmbedding, FakeQuantLinear, FakeQuantizer, TrainedScales};
use crate::{QuantError, QuantizedEmbedding, QuantizedLinear};

/// Packs a trained model's projections one by one, and gathers its learned scales on the way.
#[derive(Debug, Default)]
pub struct Convert {
    scales: TrainedScales,
}

impl Convert {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The projection `name` (without `.weight`), packed.
    ///
    /// # Errors
    /// As [`FakeQuantLinear::convert`].
    pub fn linear<B: LmBackend, L: EffectiveWeight<B>>(
        &mut self,
        name: &str,
        linear: &FakeQuantLinear<B, L>,
    ) -> Result<QuantizedLinear<B>, QuantError> {
        self.gather(name, &linear.quantizer);
        linear.convert(name)
    }

    /// The embedding table `name` (without `.weight`), packed.
    ///
    /// # Errors
    /// As [`FakeQuantEmbedding::convert`].
    pub fn embedding<B: LmBackend>(
        &mut self,
        name: &str,
        table: &FakeQuantEmbedding<B>,
    ) -> Result<QuantizedEmbedding<B>, QuantError> {
        self.gather(name, &table.quantizer);
        table.convert(name)
    }

    /// The learned scales of what was packed; none where they were observed.
    pub fn into_scales(self) -> TrainedScales {
        self.scales
    }

    fn gather<B: LmBackend>(&mut self, name: &str, quantizer: &FakeQuantizer<B>) {
        if let Some((scales, minimums)) = quantizer.trained_scales() {
            self.scales.insert(name, scales, minimums);
        }
    }
}
