//! What the seams promise, for models that are trained.

use std::path::Path;

use burn::backend::Autodiff;
use burn::module::Module;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::WeightDtype;
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_testkit::{check_linear, check_trainable_lm};
use lightglm_train::lora::{Lora, LoraConfig, LoraLinear};
use lightglm_train::objectives::CrossEntropy;

type Train = Autodiff<Flex>;

const TOKENS: [u32; 24] =
    [3, 7, 3, 9, 11, 2, 3, 7, 5, 5, 8, 1, 0, 3, 9, 3, 7, 2, 4, 6, 8, 10, 3, 7];

fn tiny(model_type: ModelType, tied: bool) -> DenseGlm<Train> {
    let shape = GlmConfig { model_type, vocab_size: 40, ..GlmConfig::tiny() };
    let config = GlmConfig { tie_word_embeddings: tied, ..shape };
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 3);
    let stored = LoadPrecision::Stored;
    DenseGlm::load(&config, &weights, Path::new("seeded"), stored, &FlexDevice).unwrap()
}

#[test]
fn models_can_be_taught() {
    check_trainable_lm(&tiny(ModelType::Glm4, false), &CrossEntropy, &TOKENS);
    check_trainable_lm(&tiny(ModelType::GlmQkNorm, true), &CrossEntropy, &TOKENS);
    let lora = Lora::new("default", LoraConfig { rank: 4, ..LoraConfig::default() }, 5).unwrap();
    let mut wrap = |name: &str, linear: DenseLinear<Train>| lora.wrap(name, linear);
    let adapted = tiny(ModelType::GlmQkNorm, true).no_grad().map_linears(&mut wrap);
    check_trainable_lm(&adapted, &CrossEntropy, &TOKENS);
}

#[test]
fn adapted_projections() {
    let lora = Lora::new("default", LoraConfig { rank: 3, ..LoraConfig::default() }, 5).unwrap();
    let mut checked = 0;
    let mut wrap = |name: &str, linear: DenseLinear<Flex>| {
        let linear = lora.wrap(name, linear);
        if name.ends_with("q_proj") {
            check_linear::<Flex, LoraLinear<Flex, DenseLinear<Flex>>>(&linear, &FlexDevice);
            checked += 1;
        }
        linear
    };
    let config = GlmConfig::tiny();
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 3);
    let stored = LoadPrecision::Stored;
    let model = DenseGlm::<Flex>::load(&config, &weights, Path::new("seeded"), stored, &FlexDevice);
    let _ = model.unwrap().map_linears(&mut wrap);
    assert_eq!(checked, config.num_hidden_layers);
}
