//! How much time is saved where activations are zero. `cargo test --release --workspace --test
//! channels_speed -- --ignored --nocapture`; nothing is asserted, since machines are shared.
//!
//! Matrices are taken in turns, so that none is in the cache; the dense product, the product channel
//! by channel and the roof (a stream of as many bytes) take turns too, and the best of several rounds
//! counts.

use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::{roofs, team};
use lightglm_kernels::{
    ActivationBits, ActivationFormat, CodeOrder, LmBackend, PackedMatrix, QuantizedMatrix,
    ScaleDtype, WeightBits,
};

const SHAPES: [[usize; 2]; 7] = [
    [1024, 1024],
    [6848, 1024],
    [1024, 3424],
    [4096, 4096],
    [27392, 4096],
    [4096, 13696],
    [256, 4096],
];

fn packed([n, k]: [usize; 2], bits: WeightBits) -> PackedMatrix<Flex> {
    let group_size = 64.min(k);
    let scales = n * k.div_ceil(group_size);
    let plain = QuantizedMatrix {
        shape: [n, k],
        bits,
        group_size,
        codes: (0..n * k).map(|i| (i * 7 % 16) as u8).collect(),
        scales: vec![0.01; scales],
        minimums: None,
    };
    let activation = ActivationFormat { bits: ActivationBits::Eight, group_size: Some(64) };
    PackedMatrix::pack(&plain, ScaleDtype::F16, activation, &FlexDevice).expect("fits")
}

/// `[1, k]`, of which `zeros` in a hundred are zero.
fn activations(k: usize, zeros: u64, mut seed: u64) -> Tensor<Flex, 2> {
    let values = (0..k).map(|_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (seed >> 33) % 100 < zeros { 0.0 } else { (seed >> 40) as f32 / (1 << 24) as f32 + 0.1 }
    });
    let values: Vec<f32> = values.collect();
    Tensor::from_data(TensorData::new(values, [1, k]), &FlexDevice)
}

#[test]
#[ignore = "measures"]
fn channels_speed() {
    println!("{} threads", team::num_threads());
    for bits in [WeightBits::Eight, WeightBits::Four] {
        for [n, k] in SHAPES {
            let one = packed([n, k], bits);
            let bytes = one.bytes();
            let copies = (240 << 20) / bytes + 1;
            let panels: Vec<_> = (0..copies).map(|_| packed([n, k], bits)).collect();
            let channels: Vec<_> =
                panels.iter().map(|m| m.clone().with_order(CodeOrder::Channels)).collect();
            for zeros in [0, 40, 50, 70] {
                let x = activations(k, zeros, 5);
                let active = x.clone().not_equal_elem(0.0).int().sum().into_scalar() as f64;
                let codes = (n * k * bits.count() / 8) as f64;
                let reduced = codes * active / k as f64 + (bytes as f64 - codes);
                let stream = roofs::ReadStream::new((reduced * copies as f64) as usize);
                let mut best = [f64::INFINITY; 3];
                let mut least = |i: usize, from: Instant| {
                    best[i] = best[i].min(from.elapsed().as_secs_f64() / copies as f64);
                };
                for _ in 0..6 {
                    let from = Instant::now();
                    panels.iter().for_each(|m| drop(Flex::project_packed(x.clone(), m, None)));
                    least(0, from);
                    let from = Instant::now();
                    channels.iter().for_each(|m| drop(Flex::project_packed(x.clone(), m, None)));
                    least(1, from);
                    let from = Instant::now();
                    stream.read();
                    least(2, from);
                }
                let [dense, sparse, roof] = best.map(|seconds| seconds * 1e6);
                println!(
                    "{bits:?} {n:>5}x{k:<5} {zeros:>2} % zeros: dense {dense:7.0} us, channels \
                     {sparse:7.0} us, {:.2}x, roof of reduced bytes {roof:7.0} us, {:.0} %",
                    dense / sparse,
                    100.0 * roof / sparse
                );
            }
        }
    }
}
