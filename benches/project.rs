//! How fast is a projection `y = x W^T`, for one row (decode) and for 512 (prefill)?
//!
//! The four matrices of the mid shape, in f32 and bf16. Timed: `LmBackend::project` on burn-flex,
//! output allocation included. Baseline in each group: `burn`, the same product in plain burn
//! operations, which converts a 16-bit matrix to f32 at every call.
//!
//! Run: `cargo bench --bench project`. Read: for one row the throughput is bytes of weights per
//! second, to be held against the read bandwidth; for 512 rows it is floating-point operations per
//! second, to be held against the multiply-add peak. Both roofs are printed first.

use std::hint::black_box;

use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lightglm_kernels::cpu::{roofs, team};
use lightglm_kernels::{LmBackend, reference};

/// `(out_features, in_features)`.
const SHAPES: [(usize, usize); 4] = [(1024, 1024), (6848, 1024), (1024, 3424), (32768, 1024)];

fn random(shape: [usize; 2], dtype: DType) -> Tensor<Flex, 2> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), (&FlexDevice, dtype))
}

fn project(criterion: &mut Criterion) {
    let threads = team::num_threads();
    println!("threads          {threads}");
    println!("read bandwidth   {:.1} GB/s", roofs::read_bandwidth_gbs(threads));
    println!("f32 multiply-add {:.0} GFLOP/s", roofs::f32_fma_gflops(threads));
    for (dtype, name) in [(DType::F32, "f32"), (DType::BF16, "bf16")] {
        let mut group = criterion.benchmark_group(format!("project_{name}"));
        group.sample_size(10);
        for (n, k) in SHAPES {
            for rows in [1, 512] {
                let (x, weight) = (random([rows, k], DType::F32), random([n, k], dtype));
                group.throughput(match rows {
                    1 => Throughput::BytesDecimal((n * k * dtype.size()) as u64),
                    _ => Throughput::Elements((2 * rows * n * k) as u64),
                });
                let shape = format!("{rows}x{n}x{k}");
                group.bench_function(BenchmarkId::new("lightglm", &shape), |bench| {
                    bench.iter(|| black_box(Flex::project(x.clone(), weight.clone(), None)));
                });
                group.bench_function(BenchmarkId::new("burn", &shape), |bench| {
                    bench.iter(|| black_box(reference::project(x.clone(), weight.clone(), None)));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, project);
criterion_main!(benches);
