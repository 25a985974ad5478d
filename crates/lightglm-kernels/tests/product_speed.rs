//! How fast the matrix product of training is: `x W^T`, `grad W` and `grad^T x`, beside burn's
//! (the `gemm` crate) and the multiply-add peak. `cargo test --release --workspace --test
//! product_speed -- --ignored --nocapture --test-threads 1`; nothing is asserted, since machines are
//! shared.
//!
//! burn's product includes the allocation of its result, as ours does where it is called into new
//! memory. The implementations take turns, and the best of many repetitions counts. On a machine that is busy otherwise,
//! `CPU_TIME=1 RAYON_NUM_THREADS=1` measures one thread by the time it runs and not by the clock.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::{
    AttentionShape, AttentionSpan, MatrixRef, Weights, attention_backward, product, product_to_vec,
    roofs, team,
};
use random::Rng;

mod random;

/// `(m, k, n)`.
const SHAPES: [[usize; 3]; 12] = [
    [2048, 256, 1536],
    [2048, 768, 256],
    [2048, 256, 512],
    [2048, 256, 4096],
    [256, 2048, 1536],
    [512, 1024, 6848],
    [512, 6848, 1024],
    [512, 3424, 1024],
    [512, 512, 512],
    [128, 1024, 1024],
    [2048, 256, 8],
    [8, 2048, 256],
];

fn tensor(values: &[f32], shape: [usize; 2]) -> Tensor<Flex, 2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (&FlexDevice, DType::F32))
}

/// What has passed: by the clock, or of this process's time on the CPU.
fn now(by_cpu: bool) -> Duration {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[cfg(target_os = "linux")]
    if by_cpu {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is good for one `timespec`.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        return Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32);
    }
    let _ = by_cpu;
    ORIGIN.get_or_init(Instant::now).elapsed()
}

#[test]
#[ignore = "measures"]
fn beside_burn() {
    let by_cpu = std::env::var_os("CPU_TIME").is_some();
    if by_cpu {
        team::set_num_threads(1);
    }
    let threads = team::num_threads();
    let roof = roofs::f32_fma_gflops(threads);
    println!("{threads} threads, multiply-add peak {roof:.0} GFLOP/s");
    let mut rng = Rng(1);
    for [m, k, n] in SHAPES {
        let (a, b) = (rng.vec(m * k), rng.vec(k * n));
        let layouts = [("x W^T", false, true), ("grad W", false, false), ("grad^T x", true, false)];
        for (name, a_transposed, b_transposed) in layouts {
            let operand = |x, [rows, columns]: [usize; 2], transposed| match transposed {
                true => MatrixRef::new(Weights::F32(x), [columns, rows]).transposed(),
                false => MatrixRef::new(Weights::F32(x), [rows, columns]),
            };
            let of_burn = |x, [rows, columns]: [usize; 2], transposed| match transposed {
                true => tensor(x, [columns, rows]).transpose(),
                false => tensor(x, [rows, columns]),
            };
            let (left, right) =
                (operand(&a, [m, k], a_transposed), operand(&b, [k, n], b_transposed));
            let burn = (of_burn(&a, [m, k], a_transposed), of_burn(&b, [k, n], b_transposed));
            let mut c = vec![0.0; m * n];
            let [mut ours, mut new, mut theirs] = [f64::INFINITY; 3];
            let flops = (2 * m * k * n) as f64;
            let rounds = (2e10 / flops) as usize;
            for _ in 0..rounds.clamp(10, 200) {
                let start = now(by_cpu);
                product(left, right, &mut c, false);
                ours = ours.min((now(by_cpu) - start).as_secs_f64());
                let start = now(by_cpu);
                black_box(product_to_vec(left, right));
                new = new.min((now(by_cpu) - start).as_secs_f64());
                let start = now(by_cpu);
                black_box(burn.0.clone().matmul(burn.1.clone()));
                theirs = theirs.min((now(by_cpu) - start).as_secs_f64());
            }
            let [ours, new, theirs] = [ours, new, theirs].map(|seconds| flops / seconds / 1e9);
            println!(
                "{m:>5}x{k:<5}x{n:<5} {name:<9} {ours:6.1} GFLOP/s ({:.0} %), into new memory \
                 {new:6.1}, burn {theirs:6.1} ({:.0} %)",
                100.0 * ours / roof,
                100.0 * theirs / roof
            );
        }
    }
}

/// The products of attention's backward pass are small and strided.
#[test]
#[ignore = "measures"]
fn attention() {
    let by_cpu = std::env::var_os("CPU_TIME").is_some();
    if by_cpu {
        team::set_num_threads(1);
    }
    let threads = team::num_threads();
    println!("{threads} threads, multiply-add peak {:.0} GFLOP/s", roofs::f32_fma_gflops(threads));
    let mut rng = Rng(2);
    for (spans, rows) in [(16, 128), (4, 512), (1, 2048)] {
        for (heads, kv_heads, head_dim) in [(4, 2, 64), (16, 2, 64), (4, 1, 128)] {
            let shape = AttentionShape { heads, kv_heads, head_dim };
            let t = spans * rows;
            let of = |heads: usize, rng: &mut Rng| rng.vec(t * heads * head_dim);
            let [q, out, grad] = std::array::from_fn(|_| of(heads, &mut rng));
            let [k, v] = std::array::from_fn(|_| of(kv_heads, &mut rng));
            let [mut dq, mut dk, mut dv] = [q.clone(), k.clone(), v.clone()];
            let span = |i| AttentionSpan { first_row: i * rows, rows, past: 0, block_table: &[] };
            let spans: Vec<_> = (0..spans).map(span).collect();
            let mut best = f64::INFINITY;
            for _ in 0..20 {
                let start = now(by_cpu);
                let to = [&mut dq[..], &mut dk[..], &mut dv[..]];
                attention_backward([&q, &k, &v], &out, &grad, shape, &spans, to);
                best = best.min((now(by_cpu) - start).as_secs_f64());
            }
            // Five products over half of the square.
            let flops = (5 * t * rows * heads * head_dim) as f64;
            println!(
                "{} spans of {rows:>4}, {heads:>2}/{kv_heads} heads of {head_dim:>3}: {:7.2} ms, \
                 {:5.1} GFLOP/s",
                spans.len(),
                best * 1e3,
                flops / best / 1e9
            );
        }
    }
}
