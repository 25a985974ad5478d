//! Benches, one measured question per file: see `cargo bench --bench decode` and its siblings. Here is
//! what they share.

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm_core::WeightDtype;
use lightglm_examples::precision::Precision;
use lightglm_examples::serving::{ServedModel, serve_source};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::SeededWeights;
use lightglm_quant::{Policy, Scheme};

/// The mid shape with random weights and room for `positions` positions: `bf16`, or a scheme's name.
pub fn mid(scheme: &str, positions: usize) -> (GlmConfig, Box<dyn ServedModel<Flex>>) {
    let config = GlmConfig { max_position_embeddings: positions, ..GlmConfig::mid() };
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 0);
    let policy = match scheme {
        "bf16" => None,
        name => Some(Policy::uniform(name.parse::<Scheme>().expect("a scheme"))),
    };
    let (file, precision) = (Path::new("random weights"), Precision::Bf16);
    let served =
        serve_source::<Flex>(&config, &weights, file, policy.as_ref(), precision, &FlexDevice);
    (config, served.expect("seeded weights fit").model)
}
