//! How near the kernels come to the machine's roofs. `cargo test --release -p lightglm-kernels
//! --test speed -- --ignored --nocapture`; nothing is asserted, since machines are shared.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use half::bf16;
use lightglm_kernels::cpu::{
    self, AttentionShape, AttentionSpan, Int8Pool, Isa, KvSlice, Weights, roofs, team,
};

/// Seconds since some moment: of this thread's processor time where it works alone, so that other
/// programs disturb less, otherwise of the clock.
fn now() -> f64 {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let clock = ORIGIN.elapsed().as_secs_f64();
    if team::num_threads() > 1 {
        return clock;
    }
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    nanoseconds.map_or(clock, |n| n / 1e9)
}

/// Best of `runs`, in seconds.
fn best(runs: usize, mut work: impl FnMut()) -> f64 {
    (0..runs)
        .map(|_| {
            let start = now();
            work();
            now() - start
        })
        .fold(f64::INFINITY, f64::min)
}

/// The sum over `parts` of the best time of each, after that many rounds over all of them: a part is
/// short enough to go undisturbed now and then, and by the next round the caches have forgotten it.
fn best_of_parts(rounds: usize, parts: usize, mut work: impl FnMut(usize)) -> f64 {
    let mut times = vec![f64::INFINITY; parts];
    for _ in 0..rounds {
        for (part, time) in times.iter_mut().enumerate() {
            let start = Instant::now();
            work(part);
            *time = time.min(start.elapsed().as_secs_f64());
        }
    }
    times.iter().sum()
}

/// `LIGHTGLM_THREADS` for the team, and `LIGHTGLM_ISA` out of those available.
fn setup() -> Vec<Isa> {
    let number = std::env::var("LIGHTGLM_THREADS").ok().and_then(|n| n.parse().ok());
    let default = std::thread::available_parallelism().map_or(1, usize::from);
    team::set_num_threads(number.unwrap_or(default));
    let name = std::env::var("LIGHTGLM_ISA").ok();
    let wanted = |isa: &Isa| name.as_ref().map_or(isa.name() != "scalar", |n| isa.name() == n);
    Isa::available().into_iter().filter(wanted).collect()
}

/// Two tasks that wait for each other: the whole way there and back.
#[test]
#[ignore = "a benchmark"]
fn fork_join() {
    setup();
    team::set_num_threads(2);
    let seconds = best(50, || {
        for _ in 0..100 {
            let inside = AtomicUsize::new(0);
            team::parallel_for(2, |_| {
                inside.fetch_add(1, Ordering::AcqRel);
                while inside.load(Ordering::Acquire) < 2 {
                    std::hint::spin_loop();
                }
            });
        }
    });
    println!("fork-join with 2 threads: {:.2} us", seconds / 100.0 * 1e6);
}

#[test]
#[ignore = "a benchmark"]
fn peaks() {
    setup();
    for threads in [1, team::num_threads()] {
        println!(
            "{threads} threads: read {:.1} GB/s, f32 FMA {:.0} GFLOP/s, int8 {:.0} GOP/s",
            roofs::read_bandwidth_gbs(threads),
            roofs::f32_fma_gflops(threads),
            roofs::int8_dot_gops(threads)
        );
    }
}

#[test]
#[ignore = "a benchmark"]
fn gemv() {
    let shapes = [(1024, 1024), (256, 1024), (6848, 1024), (1024, 3424)];
    let per_layer: usize = shapes.iter().map(|(n, k)| n * k).sum();
    let layers = 350_000_000 / per_layer;
    let weights = vec![bf16::from_f32(0.01); layers * per_layer];
    let x = vec![0.5f32; 3424];
    let mut y = vec![0.0f32; 6848];
    for isa in setup() {
        for tokens in [1, 2, 4, 8, 16, 64] {
            let xs = x.repeat(tokens);
            y.resize(6848 * tokens, 0.0);
            let roof = roofs::read_bandwidth_gbs(team::num_threads());
            let seconds = isa.run(|| {
                best_of_parts(6, layers, |layer| {
                    let mut at = layer * per_layer;
                    for (n, k) in shapes {
                        let w = Weights::Bf16(&weights[at..at + n * k]);
                        cpu::linear(&xs[..tokens * k], w, [n, k], None, &mut y[..tokens * n]);
                        at += n * k;
                    }
                })
            });
            let speed = 2.0 * weights.len() as f64 / seconds / 1e9;
            println!(
                "{} {tokens} tokens: {speed:.1} of {roof:.1} GB/s ({:.0} %), {:.0} GFLOP/s",
                isa.name(),
                100.0 * speed / roof,
                speed * tokens as f64
            );
        }
    }
}

#[test]
#[ignore = "a benchmark"]
fn gemm() {
    let t = 512;
    for isa in setup() {
        for (n, k) in [(1024, 1024), (6848, 1024), (1024, 3424), (32768, 1024), (4096, 13696)] {
            let x = vec![0.5f32; t * k];
            let w16 = vec![bf16::from_f32(0.01); n * k];
            let w32 = vec![0.01f32; n * k];
            let mut y = vec![0.0f32; t * n];
            let roof = isa.run(|| roofs::f32_fma_gflops(team::num_threads()));
            for (name, w) in [("f32", Weights::F32(&w32)), ("bf16", Weights::Bf16(&w16))] {
                let seconds = isa.run(|| best(4, || cpu::linear(&x, w, [n, k], None, &mut y)));
                let speed = 2.0 * (t * n * k) as f64 / seconds / 1e9;
                println!(
                    "{} {n} x {k} {name}: {speed:.0} of {roof:.0} GFLOP/s ({:.0} %)",
                    isa.name(),
                    100.0 * speed / roof
                );
            }
        }
    }
}

#[test]
#[ignore = "a benchmark"]
fn attention() {
    let shape = AttentionShape { heads: 16, kv_heads: 2, head_dim: 64 };
    let depth = 8192;
    let layers = 24;
    let block = shape.kv_heads * shape.head_dim * 16;
    let table: Vec<u32> = (0..(depth / 16) as u32).collect();
    let pool: Vec<Vec<bf16>> =
        (0..2 * layers).map(|_| vec![bf16::from_f32(0.1); depth / 16 * block]).collect();
    let bytes = (2 * layers * depth / 16 * block * 2) as f64;
    for isa in setup() {
        let roof = roofs::read_bandwidth_gbs(team::num_threads());
        for rows in [1, 512] {
            let q = vec![0.1f32; rows * 16 * 64];
            let mut out = vec![0.0; q.len()];
            let past = depth - rows;
            let spans = [AttentionSpan { first_row: 0, rows, past, block_table: &table }];
            let layers = if rows == 1 { layers } else { 1 };
            let seconds = isa.run(|| {
                best_of_parts(if rows == 1 { 20 } else { 4 }, layers, |layer| {
                    let keys = KvSlice::Bf16(&pool[2 * layer]);
                    let values = KvSlice::Bf16(&pool[2 * layer + 1]);
                    cpu::attention(&q, shape, 0.125, &spans, keys, values, &mut out);
                })
            });
            if rows == 1 {
                println!(
                    "{}: 24 layers at depth {depth}: {:.2} ms, memory allows {:.2} ms",
                    isa.name(),
                    seconds * 1e3,
                    bytes / roof / 1e6
                );
            } else {
                let flops = 4.0 * (rows * 16 * 64) as f64 * (past + rows / 2) as f64;
                println!(
                    "{}: one layer, last {rows} of {depth}: {:.2} ms, {:.0} GFLOP/s",
                    isa.name(),
                    seconds * 1e3,
                    flops / seconds / 1e9
                );
            }
        }
    }
}

#[test]
#[ignore = "a benchmark"]
fn attention_int8() {
    let shape = AttentionShape { heads: 16, kv_heads: 2, head_dim: 64 };
    let (depth, layers) = (8192, 24);
    let table: Vec<u32> = (0..(depth / 16) as u32).collect();
    let heads = depth * shape.kv_heads;
    let codes: Vec<Vec<i8>> = (0..2 * layers)
        .map(|_| (0..heads * 64).map(|i| (i * 37 % 255) as i8 | 1).collect())
        .collect();
    let scales = vec![vec![0.01f32; heads]; 2 * layers];
    let bytes = (2 * layers * heads * (64 + 4)) as f64;
    let q = vec![0.1f32; 16 * 64];
    let mut out = vec![0.0; q.len()];
    let spans = [AttentionSpan { first_row: 0, rows: 1, past: depth - 1, block_table: &table }];
    for isa in setup() {
        let roof = roofs::read_bandwidth_gbs(team::num_threads());
        let seconds = isa.run(|| {
            best_of_parts(20, layers, |layer| {
                let pool = Int8Pool {
                    key_codes: &codes[2 * layer],
                    key_scales: &scales[2 * layer],
                    value_codes: &codes[2 * layer + 1],
                    value_scales: &scales[2 * layer + 1],
                    rotate_keys: false,
                };
                cpu::attention_int8(&q, shape, 0.125, &spans, pool, &mut out);
            })
        });
        println!(
            "{}: 24 layers at depth {depth}: {:.2} ms, memory allows {:.2} ms",
            isa.name(),
            seconds * 1e3,
            bytes / roof / 1e6
        );
    }
}
