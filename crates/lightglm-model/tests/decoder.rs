//! The decoder against itself: what must not change the result does not, bit for bit; what must be
//! refused is.

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    CausalLm, FeedForward, KvCache, KvCacheError, LabelledSpan, Linear, LmError, LogitRows,
    SequenceId, Span, WeightDtype, WeightError, WeightSource,
};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::decoder::{DenseEmbedding, DenseGlm, DenseLinear, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_testkit::check_weight_source;

/// A small model of awkward sizes: nothing is a multiple of a vector.
fn config(model_type: ModelType) -> GlmConfig {
    GlmConfig {
        model_type,
        hidden_size: 52,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 20,
        intermediate_size: 75,
        vocab_size: 131,
        attention_bias: model_type == ModelType::Glm4,
        max_position_embeddings: 300,
        ..GlmConfig::mid()
    }
}

fn model(model_type: ModelType, dtype: WeightDtype) -> (GlmConfig, DenseGlm<Flex>) {
    let config = config(model_type);
    let weights = SeededWeights::new(config.clone(), dtype, 7);
    let file = std::path::Path::new("seeded");
    let model = DenseGlm::load(&config, &weights, file, LoadPrecision::Stored, &FlexDevice);
    (config, model.expect("seeded weights fit their configuration"))
}

fn cache(config: &GlmConfig, sequences: usize) -> ContiguousKvCache<Flex> {
    ContiguousKvCache::new(
        KvShape::of(config),
        sequences,
        config.max_position_embeddings,
        KvDtype::F32,
        &FlexDevice,
    )
}

fn tokens(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 31 + i * 7 + seed * 97) % 131).collect()
}

fn span(sequence: usize, tokens: &[u32], logits: LogitRows) -> Span<'_> {
    Span::text(SequenceId(sequence), tokens, logits)
}

fn values(logits: Tensor<Flex, 2>) -> Vec<f32> {
    logits.into_data().to_vec().expect("f32")
}

#[test]
fn a_batch_equals_its_sequences_one_by_one() {
    for (model_type, dtype) in [
        (ModelType::Glm4, WeightDtype::F32),
        (ModelType::Glm, WeightDtype::Bf16),
        (ModelType::GlmQkNorm, WeightDtype::F16),
    ] {
        let (config, model) = model(model_type, dtype);
        let prompts = [tokens(40, 1), tokens(1, 2), tokens(17, 3), tokens(200, 4)];
        let mut together = cache(&config, prompts.len());
        let spans: Vec<_> =
            prompts.iter().enumerate().map(|(i, p)| span(i, p, LogitRows::All)).collect();
        let mut batch = values(model.forward(&spans, &mut together).unwrap());
        for (i, prompt) in prompts.iter().enumerate() {
            let mut alone = cache(&config, 1);
            let spans = [span(0, prompt, LogitRows::All)];
            let single = values(model.forward(&spans, &mut alone).unwrap());
            let rest = batch.split_off(single.len());
            assert!(batch == single, "sequence {i} of the batch differs ({dtype:?})");
            batch = rest;
        }
    }
}

#[test]
fn chunks_and_single_tokens_equal_the_whole_prompt() {
    let (config, model) = model(ModelType::Glm4, WeightDtype::Bf16);
    let prompt = tokens(150, 5);
    let mut whole = cache(&config, 1);
    let whole = values(model.forward(&[span(0, &prompt, LogitRows::All)], &mut whole).unwrap());
    for chunk in [1, 7, 64, 149] {
        let mut cache = cache(&config, 1);
        let mut pieces = Vec::new();
        for piece in prompt.chunks(chunk) {
            let spans = [span(0, piece, LogitRows::All)];
            pieces.extend(values(model.forward(&spans, &mut cache).unwrap()));
        }
        assert!(pieces == whole, "chunks of {chunk} differ");
    }
    let uncached = model.forward_uncached(&[span(0, &prompt, LogitRows::All)]).unwrap();
    assert!(values(uncached) == whole, "without a cache it differs");
}

#[test]
fn only_the_requested_rows_come_back() {
    let (config, model) = model(ModelType::Glm, WeightDtype::F32);
    let (a, b) = (tokens(9, 1), tokens(4, 2));
    let all = [span(0, &a, LogitRows::All), span(1, &b, LogitRows::All)];
    let all = values(model.forward(&all, &mut cache(&config, 2)).unwrap());
    let some = [span(0, &a, LogitRows::Last), span(1, &b, LogitRows::All)];
    let some = values(model.forward(&some, &mut cache(&config, 2)).unwrap());
    assert!(some == all[8 * config.vocab_size..]);
    let none = [span(0, &a, LogitRows::None)];
    let none = model.forward(&none, &mut cache(&config, 1)).unwrap();
    assert_eq!(none.dims(), [0, config.vocab_size]);
}

#[test]
fn the_autodiff_backend_computes_the_same_model() {
    let config = config(ModelType::Glm4);
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 7);
    let file = std::path::Path::new("seeded");
    let load = LoadPrecision::Stored;
    let train =
        DenseGlm::<Autodiff<Flex>>::load(&config, &weights, file, load, &FlexDevice).unwrap();
    let serve = DenseGlm::<Flex>::load(&config, &weights, file, load, &FlexDevice).unwrap();
    let (a, b) = (tokens(30, 1), tokens(11, 2));
    let spans = [span(0, &a, LogitRows::All), span(1, &b, LogitRows::All)];
    let train = values(train.forward_uncached(&spans).unwrap().inner());
    let serve = values(serve.forward_uncached(&spans).unwrap());
    for (t, s) in train.iter().zip(&serve) {
        assert!((t - s).abs() < 2e-4, "{t} against {s}");
    }
}

#[test]
fn bad_batches_are_refused_and_leave_the_cache_alone() {
    let (config, model) = model(ModelType::Glm4, WeightDtype::F32);
    let mut cache = cache(&config, 2);
    let good = tokens(5, 1);
    model.forward(&[span(0, &good, LogitRows::None)], &mut cache).unwrap();
    let long = tokens(300, 1);
    let refused = [
        (vec![], LmError::EmptySpan(None)),
        (vec![span(0, &[], LogitRows::Last)], LmError::EmptySpan(Some(SequenceId(0)))),
        (
            vec![span(0, &[131], LogitRows::Last)],
            LmError::TokenOutOfRange { token: 131, vocab_size: 131 },
        ),
        (
            vec![span(1, &good, LogitRows::Last), span(1, &good, LogitRows::Last)],
            LmError::RepeatedSequence(SequenceId(1)),
        ),
        (
            vec![span(9, &good, LogitRows::Last)],
            LmError::Cache(KvCacheError::UnknownSequence(SequenceId(9))),
        ),
        (vec![span(0, &long, LogitRows::Last)], LmError::TooLong { position: 300, limit: 300 }),
    ];
    for (spans, expected) in refused {
        assert_eq!(model.forward(&spans, &mut cache).unwrap_err(), expected);
        let held = |i| KvCache::<Flex>::sequence(&cache, SequenceId(i)).unwrap().1;
        assert_eq!((held(0), held(1)), (5, 0));
    }
}

#[test]
fn replacing_the_parts_keeps_the_rest() {
    let (config, model) = model(ModelType::Glm4, WeightDtype::F32);
    let prompt = tokens(20, 3);
    let spans = [span(0, &prompt, LogitRows::All)];
    let before = values(model.forward_uncached(&spans).unwrap());
    let mut names = Vec::new();
    let mut seen = Vec::new();
    model.for_each_linear(|name, linear| seen.push((name.to_string(), linear.shape())));
    let model = model.map_linears(|name, linear: DenseLinear<Flex>| {
        names.push((name.to_string(), linear.shape()));
        linear
    });
    assert_eq!(seen, names);
    let expected: Vec<_> = config
        .tensor_shapes()
        .into_iter()
        .filter(|(name, shape)| shape.len() == 2 && !name.contains("embed"))
        .map(|(name, shape)| (name.replace(".weight", ""), [shape[0], shape[1]]))
        .collect();
    assert_eq!(names.len(), expected.len());
    assert!(expected.iter().all(|tensor| names.contains(tensor)), "{names:?}");
    let mut layers = Vec::new();
    let model = model.map_feed_forwards(|layer, mlp| {
        layers.push((layer, mlp.bytes_read()));
        mlp
    });
    let bytes = 3 * config.intermediate_size * config.hidden_size * 4;
    assert_eq!(layers, [(0, bytes), (1, bytes), (2, bytes)]);
    assert!(values(model.forward_uncached(&spans).unwrap()) == before);
}

#[test]
fn the_first_error_of_a_part_ends_the_replacement() {
    let (_, model) = model(ModelType::Glm4, WeightDtype::F32);
    let mut asked = 0;
    let error = model.clone().try_map_linears(|name, linear: DenseLinear<Flex>| {
        asked += 1;
        if asked < 9 { Ok(linear) } else { Err(name.to_owned()) }
    });
    assert_eq!((error.unwrap_err().as_str(), asked), ("model.layers.1.self_attn.v_proj", 9));
    let error = model.try_map_embedding(|_| Err::<DenseEmbedding<Flex>, _>("no table"));
    assert_eq!(error.unwrap_err(), "no table");
}

#[test]
fn weights_are_those_of_the_checkpoint() {
    for (model_type, tie_word_embeddings) in
        [(ModelType::Glm4, false), (ModelType::GlmQkNorm, false), (ModelType::Glm4, true)]
    {
        let config = GlmConfig { tie_word_embeddings, ..config(model_type) };
        let source = SeededWeights::new(config.clone(), WeightDtype::F32, 7);
        let file = std::path::Path::new("seeded");
        let model =
            DenseGlm::<Flex>::load(&config, &source, file, LoadPrecision::Stored, &FlexDevice);
        let weights = model.expect("seeded weights fit their configuration").weights();
        check_weight_source(&weights);
        let mut shapes = config.tensor_shapes();
        shapes.sort();
        assert_eq!(weights.shapes(), shapes);
        for (name, _) in shapes {
            let bytes =
                |source: &dyn WeightSource| source.tensor(&name).expect("it is there").bytes;
            assert!(bytes(&weights) == bytes(&source), "`{name}` differs");
        }
    }
}

#[test]
fn labelled_logits_are_those_of_the_labelled_rows() {
    let (config, model) = model(ModelType::Glm4, WeightDtype::Bf16);
    let prompts = [tokens(20, 1), tokens(7, 2)];
    let targets = [
        (0..20).map(|i| (i % 3 == 1).then_some(i)).collect::<Vec<Option<u32>>>(),
        vec![None, None, Some(130), None, None, None, Some(0)],
    ];
    let batch: Vec<LabelledSpan<'_>> = prompts
        .iter()
        .zip(&targets)
        .map(|(tokens, targets)| LabelledSpan::text(tokens, targets))
        .collect();
    let spans = [span(0, &prompts[0], LogitRows::All), span(1, &prompts[1], LogitRows::All)];
    let all = values(model.forward_uncached(&spans).unwrap());
    let rows = all.chunks_exact(config.vocab_size).zip(targets.iter().flatten());
    let expected: Vec<f32> =
        rows.filter(|(_, target)| target.is_some()).flat_map(|(row, _)| row.to_vec()).collect();
    assert!(values(model.labelled_logits(&batch).unwrap()) == expected);

    let none = [None; 7];
    let unlabelled = LabelledSpan::text(&prompts[1], &none);
    assert_eq!(model.labelled_logits(&[unlabelled]).unwrap().dims(), [0, config.vocab_size]);
    let outside = [Some(131); 7];
    let outside = LabelledSpan::text(&prompts[1], &outside);
    let error = model.labelled_logits(&[outside]).unwrap_err();
    assert_eq!(error, LmError::TokenOutOfRange { token: 131, vocab_size: 131 });
}

#[test]
fn bytes_read_counts_every_parameter_but_the_other_embeddings() {
    for model_type in [ModelType::Glm4, ModelType::Glm, ModelType::GlmQkNorm] {
        let (config, model) = model(model_type, WeightDtype::F32);
        let expected = config.parameters_read_per_token() * 4;
        assert_eq!(model.bytes_read(1) as u64, expected);
    }
}

#[test]
fn a_checkpoint_of_another_shape_is_refused_by_name() {
    let made = config(ModelType::Glm4);
    let weights = SeededWeights::new(made.clone(), WeightDtype::F32, 1);
    let file = std::path::Path::new("somewhere");
    let load = |config: &GlmConfig| {
        DenseGlm::<Flex>::load(config, &weights, file, LoadPrecision::Stored, &FlexDevice)
    };
    let wider = GlmConfig { intermediate_size: 76, ..made.clone() };
    let error = load(&wider).expect_err("refused");
    assert!(matches!(&error, WeightError::ShapeMismatch { name, .. } if name.contains("mlp")));
    let deeper = GlmConfig { num_hidden_layers: 4, ..made.clone() };
    let error = load(&deeper).expect_err("refused");
    assert!(matches!(&error, WeightError::Missing { name, .. } if name.contains("layers.3")));
    let shallower = GlmConfig { num_hidden_layers: 2, ..made };
    let error = load(&shallower).expect_err("refused");
    assert!(matches!(&error, WeightError::Unexpected { .. }));
}
