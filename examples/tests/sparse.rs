//! Sparse models, from end to end: what is left out is what the masks leave out, to the bit.

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm_core::WeightDtype;
use lightglm_core::{CausalLm, KvCache, LogitRows, SequenceId, Span};
use lightglm_eval::{Protocol, RunControl, Subject, kl_divergence};
use lightglm_examples::open_model;
use lightglm_examples::serving::{QuantizedGlm, quantize_source};
use lightglm_examples::sparse_model::sparsify;
use lightglm_model::config::GlmConfig;
use lightglm_model::generation::{ContiguousKvCache, KvDtype};
use lightglm_model::weights::SeededWeights;
use lightglm_quant::{Policy, QuantizedLinear};
use lightglm_sparse::{Magnitude, SparseLinear};

mod wikitext;

const TOKENS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

fn model(scheme: &str) -> (GlmConfig, QuantizedGlm<Flex>) {
    let config = GlmConfig::tiny();
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 7);
    let policy = Policy::uniform(scheme.parse().unwrap());
    let file = Path::new("seeded");
    let model = quantize_source(&config, &weights, file, &policy, &FlexDevice).unwrap().model;
    (config, model)
}

fn cache(config: &GlmConfig, sequences: usize) -> ContiguousKvCache<Flex> {
    let (layers, heads) = (config.num_hidden_layers, config.num_key_value_heads);
    let dtype = KvDtype::F32;
    ContiguousKvCache::new(layers, heads, config.head_dim, sequences, 32, dtype, &FlexDevice)
}

/// Logits of a prompt of five tokens and of four more, one by one, for so many equal sequences.
fn logits(config: &GlmConfig, model: &dyn CausalLm<Flex>, sequences: usize) -> Vec<u32> {
    let mut cache = cache(config, sequences);
    let mut bits = Vec::new();
    for tokens in [&TOKENS[..5], &TOKENS[5..6], &TOKENS[6..7], &TOKENS[7..8], &TOKENS[8..9]] {
        let span =
            |sequence| Span { sequence: SequenceId(sequence), tokens, logits: LogitRows::All };
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
            let sparse = sparsify(dense.clone(), sparsity, &TOKENS, &TOKENS).unwrap();
            assert!((sparse.sparsity - sparsity).abs() < 0.2, "{}", sparse.sparsity);
            assert!(sparse.skipped_bytes > 0 || sparsity == 0.0);
            // The same masks before the same projections in the order of panels.
            let masked =
                dense.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<Flex>| {
                    let head = name == "lm_head";
                    let threshold = if head { 0.0 } else { sparse.thresholds.get(name).unwrap() };
                    SparseLinear::new(linear, Magnitude { threshold })
                });
            for sequences in [1, 2, 3] {
                let expected = logits(&config, &masked, sequences);
                assert_eq!(
                    logits(&config, &*sparse.model, sequences),
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

#[test]
fn a_dense_projection_cannot_be_left_out() {
    let (_, dense) = model("dense");
    let error = sparsify(dense, 0.5, &TOKENS, &TOKENS).err().expect("refused").to_string();
    assert!(error.contains("q_proj") && error.contains("not quantized"), "{error}");
}

/// What sparsity costs the small real model in INT8: thresholds of 2,048 tokens, quality on others.
#[test]
#[ignore = "takes minutes"]
fn quality_of_the_small_model() {
    let ids = wikitext::token_ids();
    let (calibrate, rest) = ids.split_at(2048);
    let checkpoint = open_model(None).unwrap();
    let (config, file) = (checkpoint.config(), checkpoint.path());
    let policy = Policy::uniform("int8".parse().unwrap());
    let dense = quantize_source::<Flex>(config, checkpoint.weights(), file, &policy, &FlexDevice)
        .unwrap()
        .model;
    let cache = || {
        |positions| {
            let (layers, heads) = (config.num_hidden_layers, config.num_key_value_heads);
            let (width, dtype) = (config.head_dim, KvDtype::F32);
            let cache =
                ContiguousKvCache::new(layers, heads, width, 1, positions, dtype, &FlexDevice);
            Ok(Box::new(cache) as Box<dyn KvCache<Flex>>)
        }
    };
    for sparsity in [0.0, 0.25, 0.4, 0.5] {
        let sparse = sparsify(dense.clone(), sparsity, calibrate, &rest[..1024]).unwrap();
        let (mut exact, mut masked) = (cache(), cache());
        let mut reference = Subject::new(&dense, &mut exact);
        let mut candidate = Subject::new(&*sparse.model, &mut masked);
        let protocol = Protocol { context_length: 512, stride: 512, bos: None };
        let control = &mut RunControl::default();
        let ids = &rest[..rest.len().min(512 * 8)];
        let result =
            kl_divergence(&mut reference, &mut candidate, ids, &protocol, control).unwrap();
        println!(
            "sparsity {:.1} %: perplexity {:.3} against {:.3} ({:+.2} %), KL divergence {:.4}, top-1 \
             agreement {:.1} %, {} predictions",
            100.0 * sparse.sparsity,
            result.candidate.perplexity,
            result.reference.perplexity,
            100.0 * (result.candidate.perplexity / result.reference.perplexity - 1.0),
            result.mean,
            100.0 * result.top1_agreement,
            result.tokens
        );
    }
}
