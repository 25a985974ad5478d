//! Neurons chosen by a prompt: the compact model is the whole one with masks.

use std::error::Error;
use std::path::Path;

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm::ProgressSink;
use lightglm::generic::{QuantizedGlm, quantize_source};
use lightglm::sparse::griffin::{compact, down_by_channels, masked, prefill, select};
use lightglm_core::{CausalLm, FeedForward, Linear, LogitRows, SequenceId, Span, WeightDtype};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision, Site};
use lightglm_model::weights::SeededWeights;
use lightglm_quant::{Policy, QuantizedLinear};
use lightglm_sparse::{KeptNeurons, Magnitude, NeuronStatistics, Recorder, SparseLinear};

const PROMPT: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];
/// Tokens generated after the prompt.
const STEPS: usize = 6;

fn seeded() -> (GlmConfig, SeededWeights) {
    let config = GlmConfig::tiny();
    (config.clone(), SeededWeights::new(config, WeightDtype::F32, 7))
}

fn quantized(scheme: &str) -> (GlmConfig, QuantizedGlm<Flex>) {
    let (config, weights) = seeded();
    let policy = Policy::uniform(scheme.parse().unwrap());
    let file = Path::new("seeded");
    let silent = ProgressSink::default();
    let model = quantize_source(&config, &weights, file, &policy, &silent, &FlexDevice);
    (config, model.unwrap().model)
}

fn dense() -> (GlmConfig, DenseGlm<Flex>) {
    let (config, weights) = seeded();
    let file = Path::new("seeded");
    let model = DenseGlm::load(&config, &weights, file, LoadPrecision::Stored, &FlexDevice);
    (config, model.unwrap())
}

fn cache(config: &GlmConfig) -> ContiguousKvCache<Flex> {
    ContiguousKvCache::new(KvShape::of(config), 1, 64, KvDtype::F32, &FlexDevice)
}

fn span(tokens: &[u32]) -> Span<'_> {
    Span::text(SequenceId(0), tokens, LogitRows::Last)
}

fn row(logits: Tensor<Flex, 2>) -> Vec<f32> {
    logits.into_data().to_vec().unwrap()
}

fn greedy(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

/// Tokens that `model` generates greedily after the prompt that lies in `cache`, and all their logits.
fn generate(
    model: &dyn CausalLm<Flex>,
    first: u32,
    cache: &mut ContiguousKvCache<Flex>,
) -> (Vec<u32>, Vec<f32>) {
    let (mut tokens, mut all) = (vec![first], Vec::new());
    for _ in 0..STEPS {
        let last = *tokens.last().unwrap();
        let logits = row(model.forward(&[span(&[last])], cache).unwrap());
        tokens.push(greedy(&logits));
        all.extend(logits);
    }
    (tokens, all)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn the_compact_quantized_model_is_the_masked_one_to_the_bit() {
    for scheme in ["int8", "int4", "w8a8", "int8wo-g32", "int4wo-g32-zp"] {
        let (config, panels) = quantized(scheme);
        let model = down_by_channels(panels.clone());
        for keep in [0.1, 0.5, 1.0] {
            let mut caches = [cache(&config), cache(&config), cache(&config)];
            let [ours, theirs, whole] = &mut caches;
            let selected = select(&model, &[span(&PROMPT)], ours, keep).unwrap();
            let prompt = row(panels.forward(&[span(&PROMPT)], theirs).unwrap());
            panels.forward(&[span(&PROMPT)], whole).unwrap();
            assert_eq!(
                bits(&row(selected.logits)),
                bits(&prompt),
                "the prompt runs on all neurons"
            );

            let first = greedy(&prompt);
            // The masks stand before the matrices as they were, in panels.
            let reference = masked(&panels, &selected.neurons).unwrap();
            let (tokens, logits) = generate(&selected.model, first, ours);
            let (expected, expected_logits) = generate(&reference, first, theirs);
            assert_eq!(bits(&logits), bits(&expected_logits), "{scheme} {keep}");
            assert_eq!(tokens, expected, "{scheme} {keep}");
            let (_, all) = generate(&panels, first, whole);
            assert_eq!(bits(&logits) == bits(&all), keep == 1.0, "{scheme} {keep}");
        }
    }
}

/// Both policies at once: small activations are left out everywhere, and neurons of the prompt chosen.
#[test]
fn neurons_can_be_chosen_in_a_model_with_thresholds() {
    let (config, panels) = quantized("int8");
    let thresholds = |model: QuantizedGlm<Flex>| {
        model.map_linears(|name: &str, linear: QuantizedLinear<Flex>| {
            let threshold = if name == "lm_head" { 0.0 } else { 0.05 };
            SparseLinear::new(linear, Magnitude { threshold })
        })
    };
    let (ours, theirs) = (thresholds(down_by_channels(panels.clone())), thresholds(panels));
    let mut caches = [cache(&config), cache(&config)];
    let [our_cache, their_cache] = &mut caches;
    let selected = select(&ours, &[span(&PROMPT)], our_cache, 0.5).unwrap();
    theirs.forward(&[span(&PROMPT)], their_cache).unwrap();
    let reference = masked(&theirs, &selected.neurons).unwrap();
    let (_, logits) = generate(&selected.model, 7, our_cache);
    let (_, expected) = generate(&reference, 7, their_cache);
    assert_eq!(bits(&logits), bits(&expected));
}

#[test]
fn the_compact_dense_model_is_the_masked_one() {
    let (config, model) = dense();
    for keep in [0.1, 0.5, 1.0] {
        let mut caches = [cache(&config), cache(&config), cache(&config)];
        let [ours, theirs, whole] = &mut caches;
        let selected = select(&model, &[span(&PROMPT)], ours, keep).unwrap();
        let first = greedy(&row(selected.logits));
        model.forward(&[span(&PROMPT)], theirs).unwrap();
        model.forward(&[span(&PROMPT)], whole).unwrap();
        let reference = masked(&model, &selected.neurons).unwrap();
        let (tokens, logits) = generate(&selected.model, first, ours);
        let (expected, expected_logits) = generate(&reference, first, theirs);
        assert_eq!(tokens, expected, "{keep}");
        let largest = expected_logits.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        for (actual, expected) in logits.iter().zip(&expected_logits) {
            assert!((actual - expected).abs() <= 1e-5 * largest, "{actual} {expected}");
        }
        let (_, all) = generate(&model, first, whole);
        assert_eq!(bits(&logits) == bits(&all), keep == 1.0, "{keep}");
        // Both projections are cut down, which is what the bytes say.
        let left = selected.model.layers[0].mlp.bytes_read() as f64;
        let of = model.layers[0].mlp.bytes_read() as f64;
        assert!((left / of - keep).abs() < 0.01, "{left} of {of}");
    }
}

/// The prompt's activations, one layer at a time, against the formula written out.
#[test]
fn neurons_are_those_of_the_formula() {
    let (config, model) = dense();
    let (_, statistics) = prefill(&model, &[span(&PROMPT)], &mut cache(&config)).unwrap();
    let neurons = statistics.strongest(0.3).unwrap();
    assert_eq!(neurons.len(), config.num_hidden_layers);
    let mut hidden = Vec::new();
    model
        .forward_with_hook(&[span(&PROMPT)], &mut cache(&config), &mut |site, x: &Tensor<_, 2>| {
            hidden.push((site, x.clone()));
        })
        .unwrap();
    for (layer, block) in model.layers.iter().enumerate() {
        let name = format!("model.layers.{layer}.mlp.down_proj");
        let at = |site| hidden.iter().find(|(at, _)| *at == site).unwrap().1.clone();
        let residual = at(if layer == 0 { Site::Embed } else { Site::Layer(layer - 1) });
        let attention = at(Site::SelfAttnOut(layer));
        let before = match &block.post_self_attn_layernorm {
            Some(norm) => norm.forward_add(attention, residual),
            None => residual + attention,
        };
        let normed = block.post_attention_layernorm.forward(before);
        let z = Flex::swiglu(block.mlp.gate_up_proj.forward(normed));
        let [tokens, width] = z.dims();
        let z = row(z);
        let mut s = vec![0.0_f64; width];
        for t in 0..tokens {
            let z = &z[t * width..(t + 1) * width];
            let norm = z.iter().map(|&z| f64::from(z).powi(2)).sum::<f64>().sqrt();
            for (s, &z) in s.iter_mut().zip(z) {
                *s += (f64::from(z) / norm).powi(2);
            }
        }
        let s: Vec<f64> = s.into_iter().map(f64::sqrt).collect();
        let actual = statistics.of(&name).unwrap();
        for (actual, expected) in actual.iter().zip(&s) {
            assert!((actual - expected).abs() <= 1e-9, "{actual} instead of {expected}");
        }
        let count = (0.3 * width as f64).round() as usize;
        assert_eq!(neurons[&name].len(), count);
        let least = neurons[&name].iter().map(|&j| s[j]).fold(f64::MAX, f64::min);
        assert_eq!(s.iter().filter(|&&s| s > least).count(), count - 1, "the strongest ones");
    }
}

#[test]
fn what_cannot_be_selected_is_an_error() {
    let (config, model) = quantized("int8");
    for keep in [0.0, -0.5, 1.5, f64::NAN] {
        let error = select(&model, &[span(&PROMPT)], &mut cache(&config), keep).err().unwrap();
        assert!(error.to_string().contains("neurons to keep"), "{error}");
    }
    let none = compact(&model, &KeptNeurons::new()).err().unwrap();
    assert!(none.to_string().contains("layers.0.mlp"), "{none}");
    let statistics = NeuronStatistics::default();
    statistics.record("model.layers.0.mlp.down_proj", &[1.0; 100_000], 100_000).unwrap();
    let others = statistics.strongest(1.0).unwrap();
    for error in [compact(&model, &others).err(), masked(&model, &others).map(drop).err()] {
        let error = error.unwrap();
        assert!(error.to_string().contains("model.layers.0.mlp"), "{error}");
        let source = error.source().unwrap().to_string();
        assert!(source.contains("there is no"), "{source}");
    }
}

/// The mask in training: neurons that are left out learn (their gates and ups do), and pass nothing on.
#[test]
fn left_out_neurons_learn() {
    type Train = Autodiff<Flex>;
    let (config, weights) = seeded();
    let file = Path::new("seeded");
    let model =
        DenseGlm::<Train>::load(&config, &weights, file, LoadPrecision::Stored, &FlexDevice);
    let model = model.unwrap();
    let width = config.intermediate_size;
    let even: Vec<usize> = (0..width).step_by(2).collect();
    let names = (0..config.num_hidden_layers).map(|i| format!("model.layers.{i}.mlp.down_proj"));
    let neurons: KeptNeurons = names.map(|name| (name, even.clone())).collect();
    let masked = masked(&model, &neurons).unwrap();
    let all = Span { logits: LogitRows::All, ..span(&PROMPT) };
    let gradients = masked.forward_uncached(&[all]).unwrap().powi_scalar(2).mean().backward();
    for block in &masked.layers {
        let gradient = |linear: &DenseLinear<Train>| -> Vec<f32> {
            let gradient = linear.weight.val().grad(&gradients).unwrap();
            gradient.into_data().to_vec().unwrap()
        };
        let gate_up = gradient(&block.mlp.gate_up_proj.inner);
        for row in gate_up.chunks(config.hidden_size) {
            assert!(row.iter().any(|&x| x != 0.0), "every gate and up has a gradient");
        }
        let down = gradient(&block.mlp.down_proj.inner);
        for (at, x) in down.into_iter().enumerate() {
            assert_eq!(x != 0.0, at % width % 2 == 0, "of down_proj what is multiplied, at {at}");
        }
    }
}
