//! How much faster is a decode step where a part of the activations is left out?
//!
//! One step of one sequence on the mid shape with random weights, INT8 and INT4, dense and with 40 and
//! 50 % of the inputs of each of the blocks' projections below their threshold (the head stays dense).
//! Thresholds are found on 128 random tokens; with random weights and tokens activations are about
//! normal, and the sparsity printed is counted on 128 other tokens with all masks at work.
//!
//! Timed: `CausalLm::forward` of one token, logits on the host; each step another token. Baselines in
//! each group: `dense` is the same model without masks, in the order of panels; `read_roof` streams as
//! many bytes as the sparse step must read.
//!
//! Run: `cargo bench --bench sparse`. Read: the time of `dense` over that of `sparse` is the speed-up;
//! that of `read_roof` over that of `sparse` the fraction of the bandwidth.

use std::hint::black_box;
use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lightglm::ProgressSink;
use lightglm::generic::{LanguageModel, quantize_source};
use lightglm::sparse::{SHORTEST_RUN, sparsify};
use lightglm_core::{CausalLm, KvDtype, KvShape, LogitRows, SequenceId, Span, WeightDtype};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::cpu::roofs;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::SeededWeights;
use lightglm_quant::Policy;

const SEQUENCE: SequenceId = SequenceId(0);
const DEPTH: usize = 16;

fn step(
    model: &dyn CausalLm<Flex>,
    cache: &mut ContiguousKvCache<Flex>,
    token: &mut u32,
    vocab_size: usize,
) {
    *token = (*token + 7919) % vocab_size as u32;
    cache.truncate(SEQUENCE, DEPTH).expect("held");
    let tokens = &[*token];
    let span = Span::text(SEQUENCE, tokens, LogitRows::Last);
    black_box(model.forward(&[span], cache).expect("forward"));
}

fn sparse(criterion: &mut Criterion) {
    let config = GlmConfig::mid();
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 0);
    let ids: Vec<u32> = (0..256).map(|i| (i * 7919 % config.vocab_size) as u32).collect();
    for scheme in ["int8", "int4"] {
        let policy = Policy::uniform(scheme.parse().expect("a scheme"));
        let file = Path::new("random weights");
        let quantized = quantize_source::<Flex>(
            &config,
            &weights,
            file,
            &policy,
            &ProgressSink::default(),
            &FlexDevice,
        );
        let dense = quantized.expect("seeded weights fit").model;
        let (shape, room) = (KvShape::of(&config), DEPTH + 1);
        let mut cache = ContiguousKvCache::new(shape, 1, room, KvDtype::Bf16, &FlexDevice);
        cache.fill_random(DEPTH).expect("room");
        let mut token = 0;
        let mut group = criterion.benchmark_group(format!("decode_{scheme}_sparse"));
        group.sample_size(20);
        for sparsity in [0.4, 0.5] {
            let sparse = sparsify(dense.clone(), sparsity, &ids[..128], &ids[128..], SHORTEST_RUN);
            let sparse = sparse.expect("random activations are finite");
            println!(
                "{:.1} % of the blocks' weights are left out",
                100.0 * sparse.counted.sparsity
            );
            let bytes = LanguageModel::bytes_read(&dense, 1) - sparse.counted.skipped_bytes;
            let shape = format!("mid@{sparsity}");
            group.bench_function(BenchmarkId::new("read_roof", &shape), |bench| {
                let stream = roofs::ReadStream::new(bytes);
                bench.iter(|| black_box(stream.read()));
            });
            group.bench_function(BenchmarkId::new("dense", &shape), |bench| {
                bench.iter(|| step(&dense, &mut cache, &mut token, config.vocab_size));
            });
            group.bench_function(BenchmarkId::new("sparse", &shape), |bench| {
                bench.iter(|| step(&sparse.model, &mut cache, &mut token, config.vocab_size));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, sparse);
criterion_main!(benches);
