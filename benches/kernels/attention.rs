//! Attention: a decode step and the end of a prompt at depth 8192, beside what memory allows; and the
//! backward pass, whose products are small and strided, beside the multiply-add peak.

use half::bf16;
use lightglm_kernels::cpu::{
    self, AttentionShape, AttentionSpan, Int8Pool, KvSlice, attention_backward, roofs, team,
};
use lightglm_testkit::SplitMix;

use crate::Extent;
use crate::best_times::{best, best_of_parts};
use crate::dense::instruction_sets;

const SHAPE: AttentionShape = AttentionShape { heads: 16, kv_heads: 2, head_dim: 64 };
const DEPTH: usize = 8192;
const LAYERS: usize = 24;

/// Blocks of 16 positions, in order.
fn block_table() -> Vec<u32> {
    (0..(DEPTH / 16) as u32).collect()
}

/// Keys and values in bf16.
pub(crate) fn bf16_cache(extent: Extent) {
    let block = SHAPE.kv_heads * SHAPE.head_dim * 16;
    let table = block_table();
    let pool: Vec<Vec<bf16>> =
        (0..2 * LAYERS).map(|_| vec![bf16::from_f32(0.1); DEPTH / 16 * block]).collect();
    let bytes = (2 * LAYERS * DEPTH / 16 * block * 2) as f64;
    for isa in extent.of(&instruction_sets()) {
        let roof = roofs::read_bandwidth_gbs(team::num_threads());
        for rows in [1, 512] {
            let q = vec![0.1f32; rows * 16 * 64];
            let mut out = vec![0.0; q.len()];
            let past = DEPTH - rows;
            let spans = [AttentionSpan { first_row: 0, rows, past, block_table: &table }];
            let (layers, rounds) = if rows == 1 { (LAYERS, 20) } else { (1, 4) };
            let seconds = isa.run(|| {
                best_of_parts(extent.rounds(rounds), layers, |layer| {
                    let keys = KvSlice::Bf16(&pool[2 * layer]);
                    let values = KvSlice::Bf16(&pool[2 * layer + 1]);
                    cpu::attention(&q, SHAPE, 0.125, &spans, keys, values, &mut out);
                })
            });
            if rows == 1 {
                println!(
                    "{}: 24 layers at depth {DEPTH}: {:.2} ms, memory allows {:.2} ms",
                    isa.name(),
                    seconds * 1e3,
                    bytes / roof / 1e6
                );
            } else {
                let flops = 4.0 * (rows * 16 * 64) as f64 * (past + rows / 2) as f64;
                println!(
                    "{}: one layer, last {rows} of {DEPTH}: {:.2} ms, {:.0} GFLOP/s",
                    isa.name(),
                    seconds * 1e3,
                    flops / seconds / 1e9
                );
            }
        }
    }
}

/// Keys and values in INT8.
pub(crate) fn int8_cache(extent: Extent) {
    let table = block_table();
    let heads = DEPTH * SHAPE.kv_heads;
    let codes: Vec<Vec<i8>> = (0..2 * LAYERS)
        .map(|_| (0..heads * 64).map(|i| (i * 37 % 255) as i8 | 1).collect())
        .collect();
    let scales = vec![vec![0.01f32; heads]; 2 * LAYERS];
    let bytes = (2 * LAYERS * heads * (64 + 4)) as f64;
    let q = vec![0.1f32; 16 * 64];
    let mut out = vec![0.0; q.len()];
    let spans = [AttentionSpan { first_row: 0, rows: 1, past: DEPTH - 1, block_table: &table }];
    for isa in extent.of(&instruction_sets()) {
        let roof = roofs::read_bandwidth_gbs(team::num_threads());
        let seconds = isa.run(|| {
            best_of_parts(extent.rounds(20), LAYERS, |layer| {
                let pool = Int8Pool {
                    key_codes: &codes[2 * layer],
                    key_scales: &scales[2 * layer],
                    value_codes: &codes[2 * layer + 1],
                    value_scales: &scales[2 * layer + 1],
                    rotate_keys: false,
                };
                cpu::attention_int8(&q, SHAPE, 0.125, &spans, pool, &mut out);
            })
        });
        println!(
            "{}: 24 layers at depth {DEPTH}: {:.2} ms, memory allows {:.2} ms",
            isa.name(),
            seconds * 1e3,
            bytes / roof / 1e6
        );
    }
}

/// Training, without a cache.
pub(crate) fn backward(extent: Extent) {
    println!("multiply-add peak {:.0} GFLOP/s", roofs::f32_fma_gflops(team::num_threads()));
    let mut rng = SplitMix::new(2);
    for &(spans, rows) in extent.of(&[(16, 128), (4, 512), (1, 2048)]) {
        for &(heads, kv_heads, head_dim) in extent.of(&[(4, 2, 64), (16, 2, 64), (4, 1, 128)]) {
            let shape = AttentionShape { heads, kv_heads, head_dim };
            let t = spans * rows;
            let mut of = |heads: usize| -> Vec<f32> {
                (0..t * heads * head_dim).map(|_| rng.next_f32()).collect()
            };
            let [q, out, grad] = std::array::from_fn(|_| of(heads));
            let [k, v] = std::array::from_fn(|_| of(kv_heads));
            let [mut dq, mut dk, mut dv] = [q.clone(), k.clone(), v.clone()];
            let span = |i| AttentionSpan { first_row: i * rows, rows, past: 0, block_table: &[] };
            let spans: Vec<_> = (0..spans).map(span).collect();
            let seconds = best(extent.rounds(20), || {
                let to = [&mut dq[..], &mut dk[..], &mut dv[..]];
                attention_backward([&q, &k, &v], &out, &grad, shape, &spans, to);
            });
            // Five products over half of the square.
            let flops = (5 * t * rows * heads * head_dim) as f64;
            println!(
                "{} spans of {rows:>4}, {heads:>2}/{kv_heads} heads of {head_dim:>3}: {:7.2} ms, \
                 {:5.1} GFLOP/s",
                spans.len(),
                seconds * 1e3,
                flops / seconds / 1e9
            );
        }
    }
}
