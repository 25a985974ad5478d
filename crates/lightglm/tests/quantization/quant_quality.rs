//! What schemes and methods lose on the small real model, against its unquantized self: WikiText-2
//! validation in disjoint windows of 512 tokens, weights and activations rounded and put back.
//!
//! Minutes each, so they are ignored: `cargo test --release --workspace --test quantization quant_quality --
//! --ignored --nocapture [int8|w8a8|int4]`. Set `LIGHTGLM_CALIBRATION` to a text file that is not
//! WikiText for int4, and `LIGHTGLM_PEER_GGUF` to a GGUF of the same model to see its loss beside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::fake_quant::{Dense, Loss, Reference, fake};
use burn_flex::{Flex, FlexDevice};
use lightglm::{ProgressSink, SMALL_MODEL};
use lightglm_core::{CausalLm, KvCache, KvCacheError};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::{ActivationBits, ActivationFormat, QuantizedMatrix, ScaleDtype, WeightBits};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
use lightglm_quant::methods::{
    CalibrationConfig, ClipSearch, FoldedWeights, Gptq, InputStatistics, LayerPolicy, LayerWeight,
    ObservedLinear, QuantizationMethod, Record, RoundToNearest, SequentialLinear,
    SequentialQuantizer, StatisticsObserver, awq, calibrate, calibrate_twice, fold_pairs,
    scheme_bytes,
};
use lightglm_quant::{Granularity, WeightScheme};

/// Windows that are scored: 2048 tokens.
const WINDOWS: usize = 4;

/// Tokens of a window.
const CONTEXT: usize = 512;

/// Tokens of calibration text.
const CALIBRATION: usize = 4096;

/// The name that the table has; as a projection it is called `lm_head`.
const TABLE: &str = "model.embed_tokens";

fn symmetric(bits: WeightBits, group_size: usize) -> WeightScheme {
    let granularity = Granularity::PerGroup(group_size);
    WeightScheme { bits, granularity, symmetric: true, scale_dtype: ScaleDtype::F16 }
}

/// The model, its logits on the test text, and how a candidate is shown.
struct Bench {
    checkpoint: Checkpoint,
    model: Dense,
    reference: Reference,
}

impl Bench {
    fn new() -> Option<Self> {
        let mut ids = crate::wikitext::token_ids();
        ids.truncate(WINDOWS * CONTEXT);
        let checkpoint = match lightglm::checkpoint::open(SMALL_MODEL, &ProgressSink::default()) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                println!("skipped: the small model is out of reach: {error:#}");
                return None;
            }
        };
        let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap();
        let reference = Reference::new(&model, checkpoint.config(), &ids, CONTEXT);
        Some(Self { checkpoint, model, reference })
    }

    fn show(&self, name: &str, candidate: &dyn CausalLm<Flex>) -> Loss {
        let loss = self.reference.compare(candidate, self.checkpoint.config());
        let (top1, rise) = (100.0 * loss.top1, 100.0 * (loss.ratio - 1.0));
        println!("{name:44} KLD {:.5}  top-1 {top1:.2} %  perplexity {rise:+.2} %", loss.kld);
        loss
    }

    /// Everything rounded to nearest in `scheme`, activations in `format`.
    fn rounded(&self, name: &str, scheme: WeightScheme, format: ActivationFormat) -> Loss {
        let round = |name: &str, weight: &[f32], shape| {
            let layer = LayerWeight { name, weight, shape };
            Some(RoundToNearest.quantize(&layer, &scheme, None).unwrap().dequantize())
        };
        self.show(name, &fake(&self.model, round, |_| Some(format)))
    }

    fn cache(&self) -> impl FnMut(usize, usize) -> Result<Box<dyn KvCache<Flex>>, KvCacheError> {
        let shape = KvShape::of(self.checkpoint.config());
        move |sequences, positions| {
            Ok(Box::new(ContiguousKvCache::new(
                shape,
                sequences,
                positions,
                KvDtype::F32,
                &FlexDevice,
            )))
        }
    }

    /// Statistics of every layer's inputs on `text`.
    fn observe(&self, text: &[u32]) -> BTreeMap<String, InputStatistics> {
        let observer = Arc::new(StatisticsObserver::new(Record { gram: false, samples: 64 }));
        let observed =
            self.model.clone().map_linears(&mut |name: &str, linear: DenseLinear<Flex>| {
                ObservedLinear::new(name, linear, observer.clone())
            });
        calibrate(&observed, &mut self.cache(), text, &mut CalibrationConfig::default()).unwrap();
        observer.take().unwrap()
    }

    /// The model with AWQ's scales folded in.
    fn awq_folded(&self, text: &[u32], scheme: &WeightScheme) -> Dense {
        let found = self.observe(text);
        let (weights, config) = (self.checkpoint.weights(), self.checkpoint.config());
        let pairs = fold_pairs(weights, config.head_dim).unwrap();
        let folds = pairs
            .iter()
            .map(|pair| awq(weights, pair, &found[&pair.consumers[0]], scheme, 20).unwrap().fold);
        let folded = FoldedWeights::new(weights, folds.collect()).unwrap();
        let path = self.checkpoint.path();
        DenseGlm::load(config, &folded, path, LoadPrecision::Stored, &FlexDevice).unwrap()
    }

    /// `model` quantized in one pass over `text`; the table in INT8 by groups of 32.
    fn sequential(
        &self,
        name: &str,
        model: &Dense,
        text: &[u32],
        quantizer: Box<dyn QuantizationMethod>,
        policy: Box<LayerPolicy>,
        matching: Option<f32>,
    ) -> Loss {
        let start = std::time::Instant::now();
        let (mut bytes, mut weights) = (0, 0);
        model.for_each_linear(|name, linear| {
            let [n, k] = linear.weight.dims();
            bytes += scheme_bytes([n, k], &policy(name).expect("every layer has a scheme"));
            weights += n * k;
        });
        let shared = SequentialQuantizer::new(quantizer, policy, matching);
        let observed = model.clone().map_linears(&mut |name: &str, linear: DenseLinear<Flex>| {
            let bias = linear.bias.map(|bias| bias.val());
            SequentialLinear::new(name, linear.weight.val(), bias, shared.clone())
        });
        let mut calibration =
            CalibrationConfig { windows_per_step: usize::MAX, ..CalibrationConfig::default() };
        let run = if matching.is_some() { calibrate_twice::<Flex> } else { calibrate::<Flex> };
        run(&observed, &mut self.cache(), text, &mut calibration).unwrap();
        let matrices: BTreeMap<String, QuantizedMatrix> = shared.take().unwrap();
        let candidate = fake(
            model,
            |name, weight, shape| match matrices.get(name) {
                Some(matrix) => Some(matrix.dequantize()),
                None => {
                    assert_eq!(name, TABLE);
                    let scheme = symmetric(WeightBits::Eight, 32);
                    let layer = LayerWeight { name, weight, shape };
                    Some(RoundToNearest.quantize(&layer, &scheme, None).unwrap().dequantize())
                }
            },
            |_| None,
        );
        let bits = bytes as f64 * 8.0 / weights as f64;
        self.show(&format!("{name}, {bits:.3} bits, {:.0?}", start.elapsed()), &candidate)
    }
}

fn calibration_text(checkpoint: &Checkpoint) -> Option<Vec<u32>> {
    let Some(file) = std::env::var_os("LIGHTGLM_CALIBRATION") else {
        println!("skipped: LIGHTGLM_CALIBRATION names no text");
        return None;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let mut ids = checkpoint.tokenizer().unwrap().encode_text(&text).unwrap();
    ids.truncate(CALIBRATION);
    Some(ids)
}

#[test]
#[ignore = "minutes of two cores"]
fn int8() {
    let Some(bench) = Bench::new() else { return };
    let sixteen = ActivationFormat { bits: ActivationBits::Sixteen, group_size: None };
    let scheme = symmetric(WeightBits::Eight, 32);
    let loss = bench.rounded("INT8 g32, 16-bit activations", scheme, sixteen);
    assert!(loss.kld <= 0.0014 && loss.top1 >= 0.977, "{loss:?}");
}

#[test]
#[ignore = "minutes of two cores"]
fn w8a8() {
    let Some(bench) = Bench::new() else { return };
    let eight = |group_size| ActivationFormat { bits: ActivationBits::Eight, group_size };
    let scheme = symmetric(WeightBits::Eight, 32);
    let loss = bench.rounded("INT8 g32, 8-bit activations g32", scheme, eight(Some(32)));
    assert!(loss.ratio <= 1.01, "{loss:?}");
    bench.rounded(
        "INT8 g64, 8-bit activations g64",
        symmetric(WeightBits::Eight, 64),
        eight(Some(64)),
    );
}

#[test]
#[ignore = "many minutes of two cores"]
fn int4() {
    let Some(bench) = Bench::new() else { return };
    let Some(text) = calibration_text(&bench.checkpoint) else { return };
    if let Some(peer) = std::env::var_os("LIGHTGLM_PEER_GGUF") {
        let peer = Checkpoint::open(Path::new(&peer)).unwrap();
        let peer = peer.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap();
        bench.show("the peer's GGUF, weights only", &peer);
    }
    for size in [64, 128] {
        let four = symmetric(WeightBits::Four, size);
        let all = || -> Box<LayerPolicy> { Box::new(move |_| Some(four)) };
        let mixed = || -> Box<LayerPolicy> {
            Box::new(move |name| {
                let touchy = name.ends_with("down_proj") || name.ends_with("v_proj");
                let bits = if touchy { WeightBits::Eight } else { WeightBits::Four };
                Some(symmetric(bits, size))
            })
        };
        let gptq = || Box::new(Gptq::default());
        let folded = bench.awq_folded(&text, &four);
        let run = |name: &str, model, quantizer, policy, matching| {
            bench.sequential(&format!("g{size} {name}"), model, &text, quantizer, policy, matching)
        };
        let nearest = run("nearest", &bench.model, Box::new(RoundToNearest), all(), None);
        run("clip search", &bench.model, Box::new(ClipSearch), all(), None);
        run("AWQ, clip search", &folded, Box::new(ClipSearch), all(), None);
        let loss = run("GPTQ", &bench.model, gptq(), all(), None);
        assert!(loss.kld < nearest.kld, "{loss:?} {nearest:?}");
        run("AWQ, GPTQ", &folded, gptq(), all(), None);
        run("GPTQ, matching", &bench.model, gptq(), all(), Some(0.01));
        run("GPTQ, matching, down and v in INT8", &bench.model, gptq(), mixed(), Some(0.01));
    }
}
