//! Benches, one measured question per file: see `cargo bench --bench decode` and its siblings. Here is
//! what they share.

use burn_flex::{Flex, FlexDevice};
use lightglm_core::WeightDtype;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_model::weights::SeededWeights;

/// The mid shape with random bf16 weights and room for `positions` positions.
pub fn mid_bf16(positions: usize) -> (GlmConfig, DenseGlm<Flex>) {
    let config = GlmConfig { max_position_embeddings: positions, ..GlmConfig::mid() };
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 0);
    let file = std::path::Path::new("random weights");
    let model = DenseGlm::load(&config, &weights, file, LoadPrecision::Stored, &FlexDevice);
    (config, model.expect("seeded weights fit"))
}
