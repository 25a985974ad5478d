//! Benches, one measured question per file: see `cargo bench --bench decode` and its siblings. Here is
//! what they share.

use std::path::Path;
use std::sync::Arc;

use burn_flex::{Flex, FlexDevice};
use lightglm::generic::{LanguageModel, Loaded, load_source, quantize_source};
use lightglm::{Policy, ProgressSink, Scheme};
use lightglm_core::WeightDtype;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::SeededWeights;

/// The mid shape with random weights and room for `positions` positions: `bf16`, or a scheme's name.
pub fn mid(scheme: &str, positions: usize) -> (GlmConfig, Arc<dyn LanguageModel<Flex>>) {
    let config = GlmConfig { max_position_embeddings: positions, ..GlmConfig::mid() };
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 0);
    let (file, device) = (Path::new("random weights"), FlexDevice);
    let loaded: Loaded<Flex> = match scheme {
        "bf16" => load_source(&config, &weights, file, WeightDtype::Bf16, &device),
        name => {
            let policy = Policy::uniform(name.parse::<Scheme>().expect("a scheme"));
            let progress = ProgressSink::default();
            quantize_source(&config, &weights, file, &policy, &progress, &device)
                .map(|quantized| quantized.into_loaded(&device))
        }
    }
    .expect("seeded weights fit");
    (config, loaded.model)
}
