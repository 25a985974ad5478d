//! How fast is a prompt read, and how much of the processor's arithmetic is that?
//!
//! A prompt of 512 tokens on the mid shape (376 M parameters, random), logits of the last row: weights
//! in bf16 (f32 arithmetic), in the default INT8 and INT4 schemes and in W8A8 (integer arithmetic).
//!
//! Timed: `CausalLm::forward` of the whole prompt on an empty cache. Not timed: loading, tokenizing.
//! The roofs, the peaks of f32 multiply-add and of the int8 dot product with as many threads, are
//! printed before and after; other programs: docs/benchmarks.md.
//!
//! Run: `cargo bench --bench prefill`. Read: criterion's throughput column counts floating-point
//! operations (two per weight and token, attention, the head once), to be held against the roof.

use std::hint::black_box;

use burn_flex::{Flex, FlexDevice};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lightglm_benches::mid;
use lightglm_core::{KvDtype, KvShape};
use lightglm_core::{LogitRows, SequenceId, Span};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::cpu::{roofs, team};

const TOKENS: usize = 512;
const SEQUENCE: SequenceId = SequenceId(0);

fn print_roof() {
    println!("int8 dot product {:.0} GOP/s", roofs::int8_dot_gops(team::num_threads()));
    println!("f32 multiply-add {:.0} GFLOP/s", roofs::f32_fma_gflops(team::num_threads()));
}

fn prefill(criterion: &mut Criterion) {
    let tokens: Vec<u32> = (0..TOKENS as u32).map(|i| i * 7919 % 32768).collect();
    print_roof();
    for scheme in ["bf16", "int8", "int4", "w8a8-g128-ag128"] {
        let (config, model) = mid(scheme, TOKENS);
        let mut cache = ContiguousKvCache::<Flex>::new(
            KvShape::of(&config),
            1,
            TOKENS,
            KvDtype::Bf16,
            &FlexDevice,
        );
        let head = config.vocab_size * config.hidden_size;
        let layers = config.parameters_read_per_token() as usize - head;
        let width = config.num_attention_heads * config.head_dim;
        let attention = config.num_hidden_layers * 4 * width * TOKENS * (TOKENS + 1) / 2;
        let operations = 2 * layers * TOKENS + 2 * head + attention;
        let mut group = criterion.benchmark_group(format!("prefill_{scheme}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(BenchmarkId::new("lightglm", "mid@512"), |bench| {
            bench.iter(|| {
                cache.truncate(SEQUENCE, 0).expect("held");
                let span = Span::text(SEQUENCE, &tokens, LogitRows::Last);
                black_box(model.forward(&[span], &mut cache).expect("forward"))
            });
        });
        group.finish();
    }
    print_roof();
}

criterion_group!(benches, prefill);
criterion_main!(benches);
