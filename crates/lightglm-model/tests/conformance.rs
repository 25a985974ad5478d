//! The promises of core's seams, checked for every implementor in this crate.

use std::path::Path;

use burn::tensor::DType;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    KV_BLOCK, KvCache, KvDtype, KvShape, Linear, LoadPart, LogitRows, SequenceId, Span, WeightDtype,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::decoder::{ChannelLinear, DenseGlm, DenseLinear, DenseParts, LoadPrecision};
use lightglm_model::weights::{SafetensorsCheckpoint, SeededWeights, write_random_checkpoint};
use lightglm_testkit::{
    ShuffledKvCache, check_causal_lm, check_linear, check_part_source, check_slice_linear,
    check_weight_source,
};

fn config(model_type: ModelType) -> GlmConfig {
    GlmConfig { model_type, max_position_embeddings: 512, ..GlmConfig::tiny() }
}

fn model(config: &GlmConfig, dtype: WeightDtype) -> DenseGlm<Flex> {
    let weights = SeededWeights::new(config.clone(), dtype, 3);
    DenseGlm::load(config, &weights, Path::new("seeded"), LoadPrecision::Stored, &FlexDevice)
        .expect("seeded weights fit")
}

#[test]
fn decoders_are_causal_language_models_over_any_cache() {
    for (model_type, dtype) in
        [(ModelType::Glm4, WeightDtype::Bf16), (ModelType::Glm, WeightDtype::F32)]
    {
        let c = config(model_type);
        let model = model(&c, dtype);
        for dtype in [KvDtype::Bf16, KvDtype::Int8, KvDtype::Int8Rotated] {
            check_causal_lm::<Flex>(&model, |sequences, positions| {
                Box::new(ContiguousKvCache::new(
                    KvShape::of(&c),
                    sequences,
                    positions,
                    dtype,
                    &FlexDevice,
                ))
            });
        }
        check_causal_lm::<Flex>(&model, |sequences, positions| {
            let blocks = sequences * positions.div_ceil(KV_BLOCK);
            let pool = [blocks, c.num_key_value_heads, c.head_dim];
            let layers = c.num_hidden_layers;
            let cache = ShuffledKvCache::new(layers, pool, DType::F32, 5, &FlexDevice);
            Box::new(cache.with_sequences(sequences)) as Box<dyn KvCache<Flex>>
        });
        check_causal_lm::<Flex>(&model, |sequences, positions| {
            let blocks = sequences * positions.div_ceil(KV_BLOCK);
            let pool = [blocks, c.num_key_value_heads, c.head_dim];
            let layers = c.num_hidden_layers;
            let cache = ShuffledKvCache::new_int8(layers, pool, true, 5, &FlexDevice);
            Box::new(cache.with_sequences(sequences)) as Box<dyn KvCache<Flex>>
        });
    }
}

#[test]
fn dense_projections_are_linear() {
    for dtype in [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16] {
        let model = model(&config(ModelType::Glm4), dtype);
        model.for_each_linear(|_, linear| {
            check_linear(linear, &FlexDevice);
            check_slice_linear(linear, &FlexDevice);
        });
    }
}

#[test]
fn projections_channel_by_channel_are_linear_and_make_the_same_model() {
    let c = config(ModelType::Glm4);
    for dtype in [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16] {
        let dense = model(&c, dtype);
        let channels = dense.clone().map_linears(&mut |_: &str, linear: DenseLinear<Flex>| {
            let (shape, bytes) = (linear.shape(), linear.bytes_read());
            let linear = ChannelLinear::from(linear);
            assert_eq!((linear.shape(), linear.bytes_read()), (shape, bytes));
            check_linear(&linear, &FlexDevice);
            linear
        });
        check_causal_lm::<Flex>(&channels, |sequences, positions| {
            Box::new(ContiguousKvCache::new(
                KvShape::of(&c),
                sequences,
                positions,
                KvDtype::F32,
                &FlexDevice,
            ))
        });
        let span = Span::text(SequenceId(0), &[1, 5, 2, 9], LogitRows::All);
        let expected = dense.forward_uncached(&[span]).expect("a valid batch");
        let actual = channels.forward_uncached(&[span]).expect("a valid batch");
        let worst = (actual - expected.clone()).abs().max().into_scalar();
        let largest = expected.abs().max().into_scalar();
        // Sums in another order: some roundings of f32 for each of a few layers.
        assert!(worst <= 1e-4 * largest, "{dtype:?}: {worst} of {largest}");
    }
}

#[test]
fn seeded_and_stored_weights_are_sources() {
    let config = config(ModelType::Glm4);
    let seeded = SeededWeights::new(config.clone(), WeightDtype::F16, 3);
    check_weight_source(&seeded);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut progress = |_| std::ops::ControlFlow::Continue(());
    let (dir, shard_bytes) = (folder.path(), Some(20_000));
    write_random_checkpoint(dir, &config, WeightDtype::F16, 3, shard_bytes, &mut progress)
        .expect("written");
    check_weight_source(&SafetensorsCheckpoint::open(dir).expect("what was written"));
}

#[test]
fn dense_weights_are_a_source_of_parts() {
    let c = config(ModelType::Glm4);
    assert!(c.attention_bias && !c.tie_word_embeddings);
    let linears = [
        LoadPart::new("model.layers.1.self_attn.q_proj", [c.query_size(), c.hidden_size])
            .with_bias(true),
        LoadPart::new("model.layers.0.mlp.down_proj", [c.hidden_size, c.intermediate_size]),
        LoadPart::new("lm_head", [c.vocab_size, c.hidden_size]),
    ];
    let table = LoadPart::new("model.embed_tokens", [c.vocab_size, c.hidden_size]);
    let weights = SeededWeights::new(c.clone(), WeightDtype::Bf16, 3);
    for precision in [LoadPrecision::Stored, LoadPrecision::Convert(WeightDtype::F32)] {
        let parts = DenseParts::new(&c, &weights, Path::new("seeded"), precision).expect("all");
        check_part_source::<Flex, _>(&parts, &linears, &table, &FlexDevice);
    }
}
