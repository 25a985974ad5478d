//! How fast is a quantized projection, for one row (decode), 16 (a batch) and 512 (prefill)?
//!
//! The four matrices of the mid shape in INT8 and INT4, groups of 128. Timed:
//! `LmBackend::project_packed` on burn-flex, quantization of the activations and allocation of the
//! output included. Baselines in each group: `read_roof` streams as many bytes as the packed matrix
//! has with the same threads (one row), `bf16` is our projection of the same matrix unquantized.
//!
//! Run: `cargo bench --bench quant`. Read: for one row the throughput is bytes of packed weights per
//! second (`bf16`: of its own bytes), to be held against `read_roof`; for more rows it is integer
//! operations per second, to be held against the int8 peak, which is printed before and after.

use std::hint::black_box;

use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lightglm_kernels::cpu::{roofs, team};
use lightglm_kernels::{
    ActivationBits, ActivationFormat, LmBackend, PackedMatrix, ScaleDtype, WeightBits,
};
use lightglm_quant::{Granularity, WeightScheme, round_to_nearest};

/// `(out_features, in_features)`.
const SHAPES: [(usize, usize); 4] = [(1024, 1024), (6848, 1024), (1024, 3424), (32768, 1024)];

fn random(shape: [usize; 2], dtype: DType) -> Tensor<Flex, 2> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), (&FlexDevice, dtype))
}

fn packed(weight: &Tensor<Flex, 2>, bits: WeightBits) -> PackedMatrix<Flex> {
    let granularity = Granularity::PerGroup(128);
    let scheme = WeightScheme { bits, granularity, symmetric: true, scale_dtype: ScaleDtype::F16 };
    let values = weight.to_data().convert::<f32>().into_vec().expect("f32");
    let matrix = round_to_nearest("weight", &values, weight.dims(), &scheme).expect("finite");
    let activation = ActivationFormat { bits: ActivationBits::Eight, group_size: Some(128) };
    PackedMatrix::pack(&matrix, ScaleDtype::F16, activation, &FlexDevice).expect("fits")
}

fn print_roof() {
    println!("int8 dot product {:.0} GOP/s", roofs::int8_dot_gops(team::num_threads()));
}

fn quant(criterion: &mut Criterion) {
    print_roof();
    for (bits, name) in [(WeightBits::Eight, "int8"), (WeightBits::Four, "int4")] {
        let mut group = criterion.benchmark_group(format!("project_{name}"));
        group.sample_size(10);
        for (n, k) in SHAPES {
            let weight = random([n, k], DType::BF16);
            let packed = packed(&weight, bits);
            for rows in [1, 16, 512] {
                let x = random([rows, k], DType::F32);
                let work = |bytes: usize| match rows {
                    1 => Throughput::BytesDecimal(bytes as u64),
                    _ => Throughput::Elements((2 * rows * n * k) as u64),
                };
                let shape = format!("{rows}x{n}x{k}");
                group.throughput(work(packed.bytes()));
                if rows == 1 {
                    group.bench_function(BenchmarkId::new("read_roof", &shape), |bench| {
                        let stream = roofs::ReadStream::new(packed.bytes());
                        bench.iter(|| black_box(stream.read()));
                    });
                }
                group.bench_function(BenchmarkId::new("lightglm", &shape), |bench| {
                    bench.iter(|| black_box(Flex::project_packed(x.clone(), &packed, None)));
                });
                group.throughput(work(2 * n * k));
                group.bench_function(BenchmarkId::new("bf16", &shape), |bench| {
                    bench.iter(|| black_box(Flex::project(x.clone(), weight.clone(), None)));
                });
            }
        }
        group.finish();
    }
    print_roof();
}

criterion_group!(benches, quant);
criterion_main!(benches);
