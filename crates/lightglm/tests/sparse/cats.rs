//! Feed-forward parts whose neurons are chosen by their gates, over dense and quantized projections.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use burn_flex::{Flex, FlexDevice};
use lightglm::ProgressSink;
use lightglm::generic::{QuantizedGlm, quantize_source};
use lightglm::sparse::cats::{calibrate, left_out, thresholded};
use lightglm::sparse::griffin::down_by_channels;
use lightglm_core::{CausalLm, FeedForward, Linear, LogitRows, SequenceId, Span, WeightDtype};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::SwiGlu;
use lightglm_model::weights::SeededWeights;
use lightglm_quant::{Policy, QuantizedLinear};
use lightglm_sparse::{Threshold, Thresholds};

fn model(scheme: &str) -> (GlmConfig, QuantizedGlm<Flex>) {
    let config = GlmConfig::tiny();
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 7);
    let policy = Policy::uniform(scheme.parse().unwrap());
    let file = Path::new("seeded");
    let silent = ProgressSink::default();
    let model = quantize_source(&config, &weights, file, &policy, &silent, &FlexDevice);
    (config, model.unwrap().model)
}

/// Token ids without a pattern.
fn tokens(count: u32, seed: u32) -> Vec<u32> {
    (0..count).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7) % 320).collect()
}

/// Bits of the logits of a prompt of five tokens and of four more, one by one.
fn logits(config: &GlmConfig, model: &dyn CausalLm<Flex>) -> Vec<u32> {
    let (shape, dtype) = (KvShape::of(config), KvDtype::F32);
    let mut cache = ContiguousKvCache::new(shape, 1, 32, dtype, &FlexDevice);
    let ids = tokens(9, 5);
    let mut bits = Vec::new();
    for tokens in [&ids[..5], &ids[5..6], &ids[6..7], &ids[7..8], &ids[8..]] {
        let span = Span::text(SequenceId(0), tokens, LogitRows::All);
        let logits = model.forward(&[span], &mut cache).unwrap().into_data();
        bits.extend(logits.iter::<f32>().map(f32::to_bits));
    }
    bits
}

/// Thresholds below which `sparsity` of the gates lies on `tokens`.
fn thresholds(model: &QuantizedGlm<Flex>, sparsity: f64, tokens: &[u32]) -> Thresholds {
    let statistics = calibrate(model, &[tokens], &ProgressSink::default()).unwrap();
    statistics.uniform(sparsity).unwrap()
}

/// The slow, obvious reference.
#[derive(Module, Debug)]
struct Closed<B: Backend> {
    gate_up_proj: QuantizedLinear<B>,
    down_proj: QuantizedLinear<B>,
    threshold: f32,
}

impl FeedForward<Flex> for Closed<Flex> {
    fn forward(&self, x: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
        let gate_up = self.gate_up_proj.forward(x);
        let [rows, width] = gate_up.dims();
        let mut z: Vec<f32> = Flex::swiglu(gate_up.clone()).into_data().to_vec().unwrap();
        let gate_up: Vec<f32> = gate_up.into_data().to_vec().unwrap();
        let neurons = width / 2;
        for (at, z) in z.iter_mut().enumerate() {
            let gate = f64::from(gate_up[at / neurons * width + at % neurons]);
            if (gate / (1.0 + (-gate).exp())).abs() < f64::from(self.threshold) {
                *z = 0.0;
            }
        }
        let z = TensorData::new(z, [rows, neurons]);
        self.down_proj.forward(Tensor::from_data(z, &FlexDevice))
    }

    fn bytes_read(&self) -> usize {
        self.gate_up_proj.bytes_read() + self.down_proj.bytes_read()
    }
}

#[test]
fn closed_gates_are_masks_over_any_projection() {
    for scheme in ["dense", "int8", "int4"] {
        let (config, panels) = model(scheme);
        let channels = down_by_channels(panels.clone());
        let dense = logits(&config, &panels);
        for sparsity in [0.0, 0.5, 0.9] {
            let found = thresholds(&panels, sparsity, &tokens(200, 1));
            let sparse = logits(&config, &thresholded(&channels, &found).unwrap());
            let reference = panels.clone().map_feed_forwards(|layer, mlp: SwiGlu<Flex, _>| {
                let threshold = found.get(&format!("model.layers.{layer}.mlp.gate")).unwrap();
                Closed { gate_up_proj: mlp.gate_up_proj, down_proj: mlp.down_proj, threshold }
            });
            assert_eq!(sparse, logits(&config, &reference), "{scheme} {sparsity}");
            assert_eq!(sparse == dense, sparsity == 0.0, "{scheme} {sparsity}");
            // Found on some tokens, counted on others, and of `down_proj` alone.
            let counted = left_out(&channels, &found, &tokens(200, 2)).unwrap();
            assert!((counted - sparsity / 3.0).abs() < 0.02, "{scheme}: {counted} of {sparsity}");
        }
    }
}

#[test]
fn a_layer_without_a_threshold_is_an_error() {
    let (_, model) = model("int8");
    let one = Threshold { magnitude: 0.1, sparsity: 0.5 };
    let one = Thresholds::new(0.5, [("model.layers.0.mlp.gate".to_owned(), one)]).unwrap();
    let error = thresholded(&model, &one).err().unwrap().to_string();
    assert!(error.contains("model.layers.1.mlp.gate"), "{error}");
    assert!(calibrate(&model, &[&[]], &ProgressSink::default()).is_err(), "no tokens");
    let nothing = calibrate(&model, &[], &ProgressSink::default()).unwrap();
    assert!(nothing.uniform(0.5).is_err(), "no windows");
}
