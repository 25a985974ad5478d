//! How fast is a training step on this processor, and how much of its arithmetic is that?
//!
//! Two steps, with random weights: all parameters of a small decoder (hidden 256, 6 layers, FFN 768,
//! vocabulary 4096) on 8 sequences of 256 tokens; LoRA of rank 16 on all six projections of the mid
//! shape (376 M parameters) on 2 sequences of 256 tokens. Each with all activations kept and with
//! blocks computed again.
//!
//! Timed: forward pass, loss, backward pass, clipping and AdamW. Not timed: loading, tokenizing.
//! The roof, the peak of f32 multiply-add with as many threads, is printed before and after; PyTorch
//! on the same shapes: `tools/train_reference.py`; numbers: docs/benchmarks.md.
//!
//! Run: `cargo bench --bench train`. Read: criterion's throughput column counts tokens.

use std::hint::black_box;
use std::path::Path;

use burn::backend::Autodiff;
use burn::module::Module;
use burn_flex::{Flex, FlexDevice};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lightglm_core::{Activations, GradientSums, LabelledSpan, TrainableLm, WeightDtype};
use lightglm_kernels::cpu::{roofs, team};
use lightglm_kernels::keep_freed_memory;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_train::lora::{Lora, LoraConfig};
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::{AdamW, AdamWConfig, clip_factor, global_norm};

type Train = Autodiff<Flex>;

const TOKENS: usize = 256;

fn load(config: &GlmConfig) -> DenseGlm<Train> {
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 0);
    let file = Path::new("random weights");
    DenseGlm::load(config, &weights, file, LoadPrecision::Stored, &FlexDevice).expect("they fit")
}

fn measure<M: TrainableLm<Train>>(
    criterion: &mut Criterion,
    name: &str,
    config: &GlmConfig,
    model: M,
    sequences: usize,
) {
    let vocabulary = config.vocab_size as u32;
    let mut model = Some(model);
    let tokens: Vec<u32> = (0..(sequences * TOKENS) as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) % vocabulary)
        .collect();
    let targets: Vec<Option<u32>> = tokens.iter().map(|&token| Some(token)).collect();
    let parts = tokens.chunks(TOKENS).zip(targets.chunks(TOKENS));
    let batch: Vec<_> =
        parts.map(|(tokens, targets)| LabelledSpan::text(tokens, targets)).collect();
    let mut group = criterion.benchmark_group(format!("train_f32/{name}"));
    group.sample_size(10);
    group.throughput(Throughput::Elements(tokens.len() as u64));
    for activations in [Activations::Keep, Activations::Recompute] {
        let mut optimizer = AdamW::new(AdamWConfig::default());
        let id = BenchmarkId::new("lightglm", format!("{activations:?}").to_lowercase());
        group.bench_function(id, |bench| {
            bench.iter(|| {
                let mut sums = GradientSums::new();
                let trained = model.take().expect("it is put back");
                let loss = trained.differentiate(&batch, &CrossEntropy, activations, &mut sums);
                black_box(loss.expect("the batch fits"));
                let scale = 1.0 / tokens.len() as f64;
                let scale = scale * clip_factor(scale * global_norm(&sums), 1.0);
                model = Some(optimizer.step(trained, sums, 1e-5, scale));
            });
        });
    }
    group.finish();
}

fn train(criterion: &mut Criterion) {
    // As every training program does.
    keep_freed_memory();
    let roof = || {
        let gflops = roofs::f32_fma_gflops(team::num_threads());
        println!("f32 multiply-add {gflops:.0} GFLOP/s");
    };
    roof();
    let small = GlmConfig {
        hidden_size: 256,
        num_hidden_layers: 6,
        intermediate_size: 768,
        vocab_size: 4096,
        num_attention_heads: 4,
        ..GlmConfig::mid()
    };
    measure(criterion, "small", &small, load(&small), 8);
    let lora = Lora::new("default", LoraConfig::default(), 0).expect("the default is possible");
    let mut wrap = |name: &str, linear: DenseLinear<Train>| lora.wrap(name, linear);
    let mid = GlmConfig::mid();
    let model = load(&mid).no_grad().map_linears(&mut wrap);
    measure(criterion, "lora_mid", &mid, model, 2);
    roof();
}

criterion_group!(benches, train);
criterion_main!(benches);
