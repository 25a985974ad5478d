//! Sparse models, from end to end: what is left out is what the masks leave out, to the bit.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm::generic::{QuantizedGlm, quantize_source};
use lightglm::sparse::thresholds::{calibrate, fingerprint, masked};
use lightglm::sparse::{BlockErrors, sparsify};
use lightglm::{Error, Progress, ProgressSink};
use lightglm_core::{
    CausalLm, KvCache, KvDtype, KvShape, Linear, LogitRows, PageBudget, SequenceId, Span,
    WeightDtype,
};
use lightglm_eval::{KlDivergence, Protocol, Subject, kl_divergence, perplexity};
use lightglm_generation::{ContiguousKvCache, RunControl};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::SeededWeights;
use lightglm_quant::{Policy, QuantizedLinear};
use lightglm_sparse::{Magnitude, SparseLinear, SparsityError, Thresholds};

const TOKENS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

fn model(scheme: &str) -> (GlmConfig, QuantizedGlm<Flex>) {
    let config = GlmConfig::tiny();
    let model = seeded(&config, scheme, 7);
    (config, model)
}

fn seeded(config: &GlmConfig, scheme: &str, seed: u64) -> QuantizedGlm<Flex> {
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, seed);
    let policy = Policy::uniform(scheme.parse().unwrap());
    let file = Path::new("seeded");
    let silent = ProgressSink::default();
    quantize_source(config, &weights, file, &policy, &silent, &FlexDevice).unwrap().model
}

fn cache(config: &GlmConfig, sequences: usize) -> ContiguousKvCache<Flex> {
    ContiguousKvCache::new(KvShape::of(config), sequences, 32, KvDtype::F32, &FlexDevice)
}

/// Logits of a prompt of five tokens and of four more, one by one, for so many equal sequences.
fn logits(config: &GlmConfig, model: &dyn CausalLm<Flex>, sequences: usize) -> Vec<u32> {
    let mut cache = cache(config, sequences);
    let mut bits = Vec::new();
    for tokens in [&TOKENS[..5], &TOKENS[5..6], &TOKENS[6..7], &TOKENS[7..8], &TOKENS[8..9]] {
        let span = |sequence| Span::text(SequenceId(sequence), tokens, LogitRows::All);
        let spans: Vec<_> = (0..sequences).map(span).collect();
        let logits = model.forward(&spans, &mut cache).unwrap();
        let logits: Vec<f32> = logits.into_data().to_vec().unwrap();
        bits.extend(logits.into_iter().map(f32::to_bits));
    }
    bits
}

#[test]
fn a_sparse_model_is_the_dense_one_with_masks() {
    for scheme in ["int8", "int4", "w8a8", "int8wo-g32"] {
        let (config, dense) = model(scheme);
        for sparsity in [0.0, 0.5, 0.9] {
            let sparse = sparsify(dense.clone(), sparsity, &TOKENS, &TOKENS, 0).unwrap();
            let counted = sparse.counted;
            assert!((counted.sparsity - sparsity).abs() < 0.2, "{}", counted.sparsity);
            assert!(counted.skipped_bytes > 0 || sparsity == 0.0);
            // The same masks before the same projections in the order of panels.
            let masked = dense.clone().map_linears(|name: &str, linear: QuantizedLinear<Flex>| {
                let head = name == "lm_head";
                let threshold = if head { 0.0 } else { sparse.thresholds.get(name).unwrap() };
                SparseLinear::new(linear, Magnitude { threshold })
            });
            for sequences in [1, 2, 3] {
                let expected = logits(&config, &masked, sequences);
                assert_eq!(
                    logits(&config, &sparse.model, sequences),
                    expected,
                    "{scheme} {sparsity}"
                );
                if sparsity == 0.0 {
                    assert_eq!(logits(&config, &dense, sequences), expected, "{scheme}");
                } else {
                    assert_ne!(logits(&config, &dense, sequences), expected, "{scheme}");
                }
            }
        }
    }
}

/// Dense matrices are multiplied channel by channel: other sums, the same logits but for rounding.
#[test]
fn a_dense_model_can_be_sparse() {
    let (config, dense) = model("dense");
    for sparsity in [0.0, 0.5] {
        let sparse = sparsify(dense.clone(), sparsity, &TOKENS, &TOKENS, 0).unwrap();
        assert!(sparse.counted.skipped_bytes > 0 || sparsity == 0.0);
        let masked = dense.clone().map_linears(|name: &str, linear: QuantizedLinear<Flex>| {
            let threshold =
                if name == "lm_head" { 0.0 } else { sparse.thresholds.get(name).unwrap() };
            SparseLinear::new(linear, Magnitude { threshold })
        });
        let floats = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>();
        let actual = floats(logits(&config, &sparse.model, 2));
        let expected = floats(logits(&config, &masked, 2));
        let worst = actual.iter().zip(&expected).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3 && actual.len() == expected.len(), "{sparsity}: {worst}");
    }
}

fn protocol(context_only: usize) -> Protocol {
    Protocol { context_length: 8, stride: 8, bos: None, context_only }
}

/// Divergence of `model` from `dense` on the tokens, where `dense` runs `prefix` positions of each
/// window.
fn divergence(
    config: &GlmConfig,
    dense: &QuantizedGlm<Flex>,
    model: &dyn CausalLm<Flex>,
    tokens: &[u32],
    prefix: usize,
    protocol: Protocol,
) -> KlDivergence {
    let cache = |_| Ok(Box::new(cache(config, 1)) as Box<dyn KvCache<Flex>>);
    let (mut exact, mut masked) = (cache, cache);
    let mut reference = Subject::new(dense, &mut exact);
    let mut candidate = Subject::new(model, &mut masked).with_prefix(prefix, dense);
    kl_divergence(&mut reference, &mut candidate, tokens, &protocol, &mut RunControl::default())
        .unwrap()
}

#[test]
fn short_runs_stay_in_panels() {
    let (config, dense) = model("int8");
    let all = sparsify(dense.clone(), 0.5, &TOKENS, &TOKENS, 0).unwrap();
    let none = sparsify(dense.clone(), 0.5, &TOKENS, &TOKENS, usize::MAX).unwrap();
    let (none_counted, all_counted) = (none.counted, all.counted);
    assert_eq!((none_counted.skipped_bytes, none_counted.sparsity), (0, all_counted.sparsity));
    assert_eq!(logits(&config, &none.model, 1), logits(&config, &all.model, 1));
}

#[test]
fn the_second_half_alone_is_sparse() {
    let (config, dense) = model("int8");
    let tokens: Vec<u32> = TOKENS.into_iter().cycle().take(24).collect();
    let sparse = sparsify(dense.clone(), 0.6, &TOKENS, &TOKENS, 0).unwrap().model;
    let all = divergence(&config, &dense, &sparse, &tokens, 0, protocol(0));
    assert!(all.mean > 0.0 && all.tokens == 21);
    // What the dense model runs is the dense model's: the first half of each window.
    let first = divergence(&config, &dense, &sparse, &tokens[..5], 4, protocol(0));
    assert_eq!((first.max, first.tokens), (0.0, 4));
    let second = divergence(&config, &dense, &sparse, &tokens, 4, protocol(4));
    assert!(second.mean > 0.0 && second.tokens == 9);
    let whole = divergence(&config, &dense, &sparse, &tokens, 8, protocol(0));
    assert_eq!((whole.max, whole.tokens), (0.0, 21));
    // The keys and values of the first half are the dense model's, too.
    assert_ne!(divergence(&config, &dense, &sparse, &tokens, 0, protocol(4)).mean, second.mean);
    // Without sparsity nothing changes.
    let same = sparsify(dense.clone(), 0.0, &TOKENS, &TOKENS, 0).unwrap().model;
    for prefix in [0, 4] {
        let result = divergence(&config, &dense, &same, &tokens, prefix, protocol(prefix));
        assert_eq!(result.max, 0.0);
        assert_eq!(result.candidate, result.reference);
    }
}

#[test]
fn thresholds_are_of_a_model_in_any_scheme() {
    let (config, dense) = model("int8");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("thresholds.json");
    let sparse = sparsify(dense.clone(), 0.5, &TOKENS, &TOKENS, 0).unwrap();
    sparse.thresholds.save(&file, &fingerprint(&dense)).unwrap();
    let loaded = Thresholds::load(&file, &fingerprint(&dense)).unwrap();
    let again = masked(dense, &loaded, 0).unwrap();
    assert_eq!(logits(&config, &again, 1), logits(&config, &sparse.model, 1));
    assert!(Thresholds::load(&file, &fingerprint(&model("int4").1)).is_ok());
    for other in [seeded(&GlmConfig::tiny(), "int8", 8), seeded(&wider(), "int8", 7)] {
        let refused = Thresholds::load(&file, &fingerprint(&other));
        assert!(matches!(refused, Err(SparsityError::OtherModel { .. })), "{refused:?}");
    }
}

/// The tiny model with more intermediate channels.
fn wider() -> GlmConfig {
    let config = GlmConfig::tiny();
    GlmConfig { intermediate_size: 2 * config.intermediate_size, ..config }
}

#[test]
fn a_model_without_text_cannot_be_calibrated() {
    let (_, dense) = model("int8");
    let silent = ProgressSink::default();
    let statistics = calibrate(&dense, &[], &silent).unwrap();
    assert!(matches!(statistics.uniform(0.5), Err(SparsityError::NothingRecorded)));
    let stopped = calibrate(&dense, &[&TOKENS, &TOKENS], &stop_after(1));
    assert!(matches!(stopped, Err(Error::Interrupted { doing: "calibrating" })), "{stopped:?}");
}

/// Breaks off after `steps` reports.
fn stop_after(steps: u64) -> ProgressSink {
    ProgressSink::new(move |progress| match progress {
        Progress::Working { done, total, .. } if done <= total && done < steps => {
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Break(()),
    })
}

#[test]
fn allocations_meet_their_budget() {
    let (config, dense) = model("int8");
    let calibration = calibrate(&dense, &[&TOKENS], &ProgressSink::default()).unwrap();
    let progress = stop_after(u64::MAX);
    let errors = BlockErrors::measure(&dense, &config, &calibration, &TOKENS, &progress).unwrap();
    let mut parameters = BTreeMap::new();
    dense.for_each_linear(|name, linear| {
        let [n, k] = linear.shape();
        parameters.insert(name.to_owned(), (n * k) as f64);
    });
    let layers = config.num_hidden_layers;
    let sparsity = |shares: &BTreeMap<String, f64>, layers: std::ops::Range<usize>| {
        let within = |name: &str| {
            layers.clone().any(|layer| name.starts_with(&format!("model.layers.{layer}.")))
        };
        let shares = shares.iter().filter(|(name, _)| within(name));
        let sums = shares.map(|(name, share)| (parameters[name], parameters[name] * share));
        let (all, left_out) = sums.fold((0.0, 0.0), |sum, x| (sum.0 + x.0, sum.1 + x.1));
        left_out / all
    };
    for target in [0.0, 0.25, 0.5, 1.0] {
        let per_block = errors.allocate_per_block(target).unwrap();
        let over_all = errors.allocate_over_all(target).unwrap();
        for layer in 0..layers {
            let reached = sparsity(&per_block, layer..layer + 1);
            assert!((reached - target).abs() < 1e-3, "layer {layer}: {reached} for {target}");
        }
        for shares in [&per_block, &over_all] {
            assert_eq!(shares.len(), 6 * layers);
            let reached = sparsity(shares, 0..layers);
            assert!((reached - target).abs() < 1e-3, "{reached} for {target}");
            let [q, k, v] = ["q_proj", "k_proj", "v_proj"]
                .map(|name| shares[&format!("model.layers.0.self_attn.{name}")]);
            assert!(q == k && k == v, "one input, one sparsity");
            // Every share becomes a threshold.
            let share = |name: &str| shares.get(name).copied().unwrap_or(0.0);
            let thresholds = calibration.thresholds(target, share);
            masked(dense.clone(), &thresholds.unwrap(), 0).unwrap();
        }
    }
    assert!(errors.allocate_per_block(1.5).is_err());
    let stopped = BlockErrors::measure(&dense, &config, &calibration, &TOKENS, &stop_after(3));
    assert!(matches!(stopped, Err(Error::Interrupted { .. })), "{stopped:?}");
}

/// What is scored is decoded where steps have one row, and pages are chosen then.
#[test]
fn a_page_budget_is_measured_token_by_token() {
    let config = GlmConfig { max_position_embeddings: 256, ..GlmConfig::tiny() };
    let dense = seeded(&config, "int8", 7);
    let tokens: Vec<u32> = (0..128).map(|i| i * 37 % config.vocab_size as u32).collect();
    let windows = Protocol { context_length: 128, stride: 128, bos: None, context_only: 96 };
    let score = |budget: Option<usize>, rows_per_step| {
        let mut make_cache = |positions| {
            let (shape, dtype) = (KvShape::of(&config), KvDtype::F32);
            let cache = ContiguousKvCache::new(shape, 1, positions, dtype, &FlexDevice);
            Ok(Box::new(match budget {
                Some(positions) => cache.with_page_budget(PageBudget { positions }, 0),
                None => cache,
            }) as Box<dyn KvCache<Flex>>)
        };
        let mut subject = Subject::new(&dense, &mut make_cache);
        let mut control = RunControl { rows_per_step, ..RunControl::default() };
        perplexity(&mut subject, &tokens, &windows, &mut control).unwrap()
    };
    let exact = score(None, 128);
    assert_eq!(exact.tokens, 31);
    assert_eq!(score(None, 1), exact);
    assert_eq!(score(Some(128), 1), exact);
    assert_eq!(score(Some(16), 128), exact, "several rows at once are exact");
    assert_ne!(score(Some(16), 1), exact);
}
