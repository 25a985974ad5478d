//! The weights of a decoder in training, whatever wraps its projections: those of the model that is
//! left when the wrappers are taken off.

use std::path::Path;

use burn::tensor::DType;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{Linear, WeightDtype, WeightSource};
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DecoderWeights, DenseGlm, DenseLinear, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_quant::Policy;
use lightglm_quant::qat::{FakeQuantLinear, Prepare, ScaleSource};
use lightglm_testkit::check_weight_source;
use lightglm_train::lora::{Lora, LoraConfig, LoraLinear, LowRank};
use lightglm_train::{HalfPrecision, MixedPrecision};

type Dense = DenseLinear<Flex>;

const TABLE: &str = "model.embed_tokens";

fn dense(tie_word_embeddings: bool) -> DenseGlm<Flex> {
    let config = GlmConfig { tie_word_embeddings, ..GlmConfig::tiny() };
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 3);
    DenseGlm::load(&config, &weights, Path::new("seeded"), LoadPrecision::Stored, &FlexDevice)
        .unwrap()
}

/// An adapter on every projection that changes its weight.
fn adapter(model: &DenseGlm<Flex>) -> Lora {
    let config = LoraConfig { rank: 2, alpha: 4.0, ..LoraConfig::default() };
    let mut all = std::collections::BTreeMap::new();
    model.for_each_linear(|name, linear| {
        let [n, k] = linear.shape();
        let lora_a = (0..2 * k).map(|i| (i % 7) as f32 * 0.01 - 0.03).collect();
        let lora_b = (0..n * 2).map(|i| (i % 5) as f32 * 0.01 - 0.02).collect();
        if config.is_target(name) {
            let scale = config.scale();
            let low = LowRank { rank: 2, scale, shape: [n, k], lora_a, lora_b };
            all.insert(name.to_owned(), low);
        }
    });
    Lora::with_matrices("default", config, all).unwrap()
}

fn assert_same(what: &str, actual: &DecoderWeights, expected: &DecoderWeights) {
    assert_eq!(actual.shapes(), expected.shapes(), "{what}");
    for name in expected.names() {
        let bytes = |weights: &DecoderWeights| weights.tensor(&name).unwrap().bytes;
        assert_eq!(bytes(actual), bytes(expected), "{what}: `{name}`");
    }
}

#[test]
fn adapters_are_merged_into_the_weights() {
    let model = dense(false);
    let lora = adapter(&model);
    let plain = model.weights();
    let adapted = model.map_linears(|name, linear: Dense| lora.wrap(name, linear));
    // Merged in f32, which the adapted weights are given in; the base may be stored in less.
    let merged = adapted.clone().map_linears(|_, mut linear: LoraLinear<Flex, Dense>| {
        linear.base.weight = linear.base.weight.map(|weight| weight.cast(DType::F32));
        linear.into_merged()
    });
    let weights = adapted.weights();
    check_weight_source(&weights);
    assert_same("LoRA", &weights, &merged.weights());
    let name = "model.layers.0.mlp.down_proj.weight";
    assert_ne!(weights.tensor(name).unwrap().bytes, plain.tensor(name).unwrap().bytes);
}

#[test]
fn fake_quantization_is_looked_through() {
    for (tied, scales) in [
        (false, ScaleSource::Observed),
        (true, ScaleSource::Observed),
        (false, ScaleSource::Learned),
    ] {
        let model = dense(tied);
        let expected = model.weights();
        assert_eq!(expected.shape("lm_head.weight").is_none(), tied);
        let policy: Policy =
            "model.embed_tokens=int8wo,*.o_proj=dense,*=int4wo-g8".parse().unwrap();
        let mut prepare = Prepare::new(&policy).with_scales(scales);
        let model = model.try_map_linears(|name, linear: Dense| prepare.linear(name, linear));
        let model =
            model.unwrap().try_map_embedding(|table| prepare.embedding(TABLE, table.weight));
        assert_same("fake quantization", &model.unwrap().weights(), &expected);
    }
}

#[test]
fn wrappers_compose() {
    let model = dense(false);
    let lora = adapter(&model);
    let adapted = model.map_linears(|name, linear: Dense| lora.wrap(name, linear));
    let expected = adapted.weights();
    let policy = Policy::uniform("int4wo-g8".parse().unwrap());
    let mut prepare = Prepare::new(&policy);
    let fake = adapted
        .clone()
        .try_map_linears(|name, linear: LoraLinear<Flex, Dense>| prepare.linear(name, linear))
        .and_then(|model| model.try_map_embedding(|table| prepare.embedding(TABLE, table.weight)))
        .unwrap();
    assert_same("fake quantization over LoRA", &fake.weights(), &expected);
    type Fake = FakeQuantLinear<Flex, LoraLinear<Flex, Dense>>;
    let inner = fake.map_linears(|_, linear: Fake| linear.inner);
    assert_same("what is inside", &inner.weights(), &expected);
    let half = adapted.map_linears(|_, linear| MixedPrecision::new(linear, HalfPrecision::Bf16));
    assert_same("half precision over LoRA", &half.weights(), &expected);
}
