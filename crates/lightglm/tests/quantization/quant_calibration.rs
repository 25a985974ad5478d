//! Calibration, folding and quantization in sequence on a small random decoder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    CausalLm, KvCache, KvCacheError, LogitRows, SequenceId, Span, WeightDtype, WeightSource,
};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::{ScaleDtype, WeightBits};
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_quant::methods::{
    CalibrationConfig, ClipSearch, Fold, FoldedWeights, Gptq, InputStatistics, MethodError,
    ObservedLinear, QuantizationMethod, Record, RoundToNearest, SequentialLinear,
    SequentialQuantizer, StatisticsObserver, awq, calibrate, calibrate_twice, fold_pairs,
};
use lightglm_quant::{Granularity, WeightScheme, round_to_nearest};

/// Logits are near 1; folding rounds each weight twice more.
const FOLDED: f32 = 2e-5;

const FOUR: WeightScheme = WeightScheme {
    bits: WeightBits::Four,
    granularity: Granularity::PerGroup(16),
    symmetric: true,
    scale_dtype: ScaleDtype::F16,
};

/// Six query heads on two kv heads; biases and post-norms where the type has them.
fn config(model_type: ModelType) -> GlmConfig {
    GlmConfig {
        model_type,
        num_attention_heads: 6,
        attention_bias: model_type == ModelType::Glm4,
        ..GlmConfig::tiny()
    }
}

fn load(config: &GlmConfig, weights: &dyn WeightSource) -> DenseGlm<Flex> {
    let (file, precision) = (Path::new("seeded"), LoadPrecision::Stored);
    DenseGlm::load(config, weights, file, precision, &FlexDevice).unwrap()
}

fn cache(
    config: &GlmConfig,
) -> impl FnMut(usize, usize) -> Result<Box<dyn KvCache<Flex>>, KvCacheError> {
    let shape = KvShape::of(config);
    move |sequences, positions| {
        Ok(Box::new(ContiguousKvCache::new(shape, sequences, positions, KvDtype::F32, &FlexDevice)))
    }
}

fn text(tokens: usize) -> Vec<u32> {
    (0..tokens as u32).map(|i| (i * i * 31 + i * 7 + 5) % 320).collect()
}

fn logits(model: &dyn CausalLm<Flex>, config: &GlmConfig) -> Vec<f32> {
    let tokens = text(40);
    let mut cache = cache(config)(1, tokens.len()).unwrap();
    let span = Span::text(SequenceId(0), &tokens, LogitRows::All);
    model.forward(&[span], cache.as_mut()).unwrap().into_data().to_vec().unwrap()
}

fn observed(
    config: &GlmConfig,
    model: &DenseGlm<Flex>,
    record: Record,
    calibration: &mut CalibrationConfig<'_>,
    tokens: &[u32],
) -> Result<BTreeMap<String, InputStatistics>, MethodError> {
    let observer = Arc::new(StatisticsObserver::new(record));
    let model = model.clone().map_linears(&mut |name: &str, linear: DenseLinear<Flex>| {
        ObservedLinear::new(name, linear, observer.clone())
    });
    calibrate(&model, &mut cache(config), tokens, calibration)?;
    observer.take()
}

#[test]
fn a_folded_model_is_the_same_model() {
    for model_type in [ModelType::Glm4, ModelType::Glm] {
        let config = config(model_type);
        let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 3);
        let model = load(&config, &weights);
        let pairs = fold_pairs(&weights, config.head_dim).unwrap();
        assert_eq!(pairs.len(), 4 * config.num_hidden_layers + 1, "the head is not tied");
        // One pair alone, and all of them: a tensor can be source and consumer at once.
        let scales = |at: usize, channels: usize| -> Vec<f32> {
            (0..channels).map(|c| 0.3 + ((c * 7 + at * 3) % 11) as f32 * 0.4).collect()
        };
        let fold = |(at, pair): (usize, &lightglm_quant::methods::FoldPair)| {
            let columns = weights.shape(&format!("{}.weight", pair.consumers[0])).unwrap()[1];
            Fold { pair: pair.clone(), scales: scales(at, pair.source.channels(columns)) }
        };
        let all: Vec<Fold> = pairs.iter().enumerate().map(fold).collect();
        let expected = logits(&model, &config);
        for folds in all.iter().map(|fold| vec![fold.clone()]).chain([all.clone()]) {
            let folded = FoldedWeights::new(&weights, folds.clone()).unwrap();
            let name = format!("{}.weight", folds[0].pair.consumers[0]);
            let changed = folded.tensor(&name).unwrap().bytes;
            assert_ne!(changed, weights.tensor(&name).unwrap().bytes, "{name} was not folded");
            let actual = logits(&load(&config, &folded), &config);
            let far = expected.iter().zip(&actual).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let source = folds[0].pair.source.name();
            assert!(far < FOLDED, "{far} after folding {} pairs at {source}", folds.len());
        }
    }
}

#[test]
fn statistics_are_those_of_the_text_and_observing_changes_nothing() {
    let config = config(ModelType::Glm4);
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 3);
    let model = load(&config, &weights);
    let record = Record { gram: true, samples: 8 };
    let mut seen = Vec::new();
    let mut progress = |done, total| seen.push((done, total));
    let mut calibration = CalibrationConfig {
        context_length: 16,
        windows_per_step: 2,
        progress: Some(&mut progress),
        ..CalibrationConfig::default()
    };
    let found = observed(&config, &model, record, &mut calibration, &text(85)).unwrap();
    assert_eq!(seen, [(32, 80), (64, 80), (80, 80)]);
    assert_eq!(found.len(), 6 * config.num_hidden_layers + 1);
    let (q, v) =
        ["q_proj", "v_proj"].map(|p| &found[&format!("model.layers.1.self_attn.{p}")]).into();
    assert_eq!(q, v, "q_proj and v_proj have the same inputs");
    assert_eq!((q.rows(), q.width()), (80, config.hidden_size));
    assert_eq!(q.samples().len(), 8 * config.hidden_size);
    let square = f64::from(q.gram().unwrap()[0]) / 80.0;
    assert!((square / f64::from(q.mean_square()[0]) - 1.0).abs() < 1e-4);
    assert!(q.mean_abs()[0] <= q.absmax()[0]);
    let observer = Arc::new(StatisticsObserver::new(record));
    let same = model.clone().map_linears(&mut |name: &str, linear: DenseLinear<Flex>| {
        ObservedLinear::new(name, linear, observer.clone())
    });
    assert_eq!(logits(&same, &config), logits(&model, &config));
}

#[test]
fn a_text_that_is_empty_and_a_stop_are_errors() {
    let config = config(ModelType::Glm);
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 3);
    let model = load(&config, &weights);
    let record = Record { gram: false, samples: 0 };
    let empty = observed(&config, &model, record, &mut CalibrationConfig::default(), &[]);
    assert!(matches!(empty, Err(MethodError::NoText { tokens: 0, least: 1 })));
    let stop = AtomicBool::new(true);
    let mut calibration = CalibrationConfig { stop: Some(&stop), ..CalibrationConfig::default() };
    let stopped = observed(&config, &model, record, &mut calibration, &text(20));
    assert!(matches!(stopped, Err(MethodError::Stopped { done: 0, total: 20 })));
    let short = observed(&config, &model, record, &mut CalibrationConfig::default(), &text(3));
    assert_eq!(short.unwrap()["lm_head"].rows(), 1);
    let outside = observed(&config, &model, record, &mut CalibrationConfig::default(), &[7_000]);
    assert!(matches!(outside, Err(MethodError::Model(_))));
}

#[test]
fn a_model_is_quantized_in_one_pass() {
    let config = config(ModelType::Glm4);
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 3);
    let model = load(&config, &weights);
    let run = |quantizer: Box<dyn QuantizationMethod>, matching: Option<f32>| {
        let policy = |name: &str| (name != "lm_head").then_some(FOUR);
        let shared = SequentialQuantizer::new(quantizer, Box::new(policy), matching);
        let model = model.clone().map_linears(&mut |name: &str, linear: DenseLinear<Flex>| {
            let bias = linear.bias.map(|bias| bias.val());
            SequentialLinear::new(name, linear.weight.val(), bias, shared.clone())
        });
        let mut calibration = CalibrationConfig {
            context_length: 32,
            windows_per_step: 8,
            ..CalibrationConfig::default()
        };
        match matching {
            None => calibrate(&model, &mut cache(&config), &text(256), &mut calibration).unwrap(),
            Some(_) => {
                calibrate_twice(&model, &mut cache(&config), &text(256), &mut calibration).unwrap();
            }
        }
        let matrices = shared.take().unwrap();
        assert_eq!(matrices.len(), 6 * config.num_hidden_layers, "the head stays");
        matrices
    };
    // What needs no data is the same in a pass as without.
    for (name, matrix) in run(Box::new(RoundToNearest), None) {
        let view = weights.tensor(&format!("{name}.weight")).unwrap();
        let values: Vec<f32> = bytemuck_f32(&view.bytes);
        assert_eq!(matrix, round_to_nearest(&name, &values, matrix.shape, &FOUR).unwrap());
    }
    // How far the logits go from the unquantized model's.
    let expected = logits(&model, &config);
    let distance = |matrices: &BTreeMap<String, lightglm_kernels::QuantizedMatrix>| -> f64 {
        let quantized = model.clone().map_linears(&mut |name: &str, mut l: DenseLinear<Flex>| {
            if let Some(matrix) = matrices.get(name) {
                let data = burn::tensor::TensorData::new(matrix.dequantize(), matrix.shape);
                let tensor = burn::tensor::Tensor::from_data(data, &FlexDevice);
                l.weight = burn::module::Param::from_tensor(tensor);
            }
            l
        });
        let actual = logits(&quantized, &config);
        expected.iter().zip(actual).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let plain = distance(&run(Box::new(RoundToNearest), None));
    let clip = distance(&run(Box::new(ClipSearch), None));
    let gptq = distance(&run(Box::<Gptq>::default(), None));
    let matched = distance(&run(Box::<Gptq>::default(), Some(0.05)));
    println!("rounded {plain:.4}, clipped {clip:.4}, GPTQ {gptq:.4}, matching {matched:.4}");
    assert!(gptq < 0.8 * plain, "{gptq} {plain}");
    assert!(matched < 0.8 * plain, "{matched} {plain}");
}

#[test]
fn awq_runs_on_what_was_observed() {
    let config = config(ModelType::Glm4);
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 3);
    let model = load(&config, &weights);
    let record = Record { gram: false, samples: 0 };
    let found =
        observed(&config, &model, record, &mut CalibrationConfig::default(), &text(64)).unwrap();
    for pair in fold_pairs(&weights, config.head_dim).unwrap() {
        let inputs = &found[&pair.consumers[0]];
        let found = awq(&weights, &pair, inputs, &FOUR, 10).unwrap();
        assert!(found.after <= found.before);
        FoldedWeights::new(&weights, vec![found.fold]).unwrap();
    }
    let wrong = fold_pairs(&weights, 7);
    assert!(matches!(wrong, Err(MethodError::Fold { .. })));
}

fn bytemuck_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
