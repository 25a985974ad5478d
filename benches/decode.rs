//! How fast does a decode step run, and how much of the memory's speed is that?
//!
//! One step of one sequence on the mid shape (hidden 1024, 24 layers, 16/2 heads of 64, FFN 3424,
//! vocab 32768; 376 M parameters, random) at several depths: bf16 weights, keys and values; the
//! default INT8 and INT4 schemes with keys and values in INT8.
//!
//! Timed: `CausalLm::forward` of one token, logits on the host. Not timed: loading, sampling.
//! Baseline in each group: `read_roof` streams as many bytes as a step must read with the same
//! threads and does nothing else with them. Other programs: docs/benchmarks.md.
//!
//! Run: `cargo bench --bench decode`. Read: the throughput of `lightglm` over that of `read_roof` is
//! the fraction of the bandwidth; criterion's throughput column is bytes that must move.

use std::hint::black_box;

use burn_flex::{Flex, FlexDevice};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lightglm_benches::mid;
use lightglm_core::{KvDtype, KvShape};
use lightglm_core::{LogitRows, SequenceId, Span};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::cpu::roofs;
use lightglm_model::config::GlmConfig;

const SEQUENCE: SequenceId = SequenceId(0);

/// A cache of one sequence that holds `depth` positions of random keys and values.
fn cache(config: &GlmConfig, depth: usize, dtype: KvDtype) -> ContiguousKvCache<Flex> {
    let mut cache = ContiguousKvCache::new(KvShape::of(config), 1, depth + 1, dtype, &FlexDevice);
    cache.fill_random(depth).expect("room");
    cache
}

fn decode(criterion: &mut Criterion) {
    let depths = [16, 2048, 8192];
    let schemes = [("bf16", KvDtype::Bf16), ("int8", KvDtype::Int8), ("int4", KvDtype::Int8)];
    for (scheme, kv) in schemes {
        let (config, model) = mid(scheme, 8192 + 1);
        let mut group = criterion.benchmark_group(format!("decode_{scheme}"));
        group.sample_size(20);
        for depth in depths {
            let position = KvShape::of(&config).bytes_per_position(kv);
            let bytes = model.bytes_read(1) + position * (depth + 1);
            group.throughput(Throughput::BytesDecimal(bytes as u64));
            let shape = format!("mid@{depth}");
            group.bench_function(BenchmarkId::new("read_roof", &shape), |bench| {
                let stream = roofs::ReadStream::new(bytes);
                bench.iter(|| black_box(stream.read()));
            });
            group.bench_function(BenchmarkId::new("lightglm", &shape), |bench| {
                let mut cache = cache(&config, depth, kv);
                bench.iter(|| {
                    cache.truncate(SEQUENCE, depth).expect("held");
                    let span = Span::text(SEQUENCE, &[17], LogitRows::Last);
                    black_box(model.forward(&[span], &mut cache).expect("forward"))
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
