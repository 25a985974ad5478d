//! How much time is saved where activations are zero and weights are f32 or bf16, and what many tokens
//! cost. `cargo test --release --workspace --test float_channels_speed -- --ignored --nocapture
//! --test-threads 1`; nothing is asserted, since machines are shared.
//!
//! Matrices are taken in turns, so that none is in the cache; the row-major product, the product
//! channel by channel and the roof (a stream of as many bytes) take turns too, and the best of several
//! rounds counts.

use std::time::Instant;

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::{roofs, team};
use lightglm_kernels::{LmBackend, channel_tiles};
use random::Rng;

mod random;

const SHAPES: [[usize; 2]; 4] = [[1024, 1024], [6848, 1024], [1024, 3424], [4096, 4096]];
const DTYPES: [DType; 2] = [DType::BF16, DType::F32];

/// `[rows, columns]`, of which `zeros` in a hundred are zero.
fn matrix(shape: [usize; 2], zeros: u64, seed: u64) -> Tensor<Flex, 2> {
    let mut rng = Rng(seed);
    let mut values = rng.vec(shape[0] * shape[1]);
    for value in &mut values {
        *value = if rng.next() % 100 < zeros { 0.0 } else { *value + 1.5 };
    }
    Tensor::from_data(TensorData::new(values, shape), &FlexDevice)
}

/// Microseconds that each of `works` takes for a part: of each part the least of several rounds, in
/// which the works take turns. A part is short enough to go undisturbed now and then.
fn least<const W: usize>(rounds: usize, parts: usize, works: [&dyn Fn(usize); W]) -> [f64; W] {
    let mut best = vec![[f64::INFINITY; W]; parts];
    for _ in 0..rounds {
        for (i, work) in works.iter().enumerate() {
            for (part, best) in best.iter_mut().enumerate() {
                let from = Instant::now();
                work(part);
                best[i] = best[i].min(from.elapsed().as_secs_f64());
            }
        }
    }
    std::array::from_fn(|i| best.iter().map(|best| best[i]).sum::<f64>() * 1e6 / parts as f64)
}

/// A weight often enough that it is out of the cache the next time.
fn copies(shape: [usize; 2], dtype: DType) -> Vec<Tensor<Flex, 2>> {
    let count = (240 << 20) / (shape[0] * shape[1] * dtype.size()) + 1;
    let one = matrix(shape, 0, 7).cast(dtype);
    (0..count).map(|_| Tensor::from_data(one.to_data(), (&FlexDevice, dtype))).collect()
}

#[test]
#[ignore = "measures"]
fn zeros_are_left_out() {
    println!("{} threads", team::num_threads());
    for dtype in DTYPES {
        for [n, k] in SHAPES {
            let rows = copies([n, k], dtype);
            let channels: Vec<_> = rows.iter().map(|w| channel_tiles(w.clone())).collect();
            for zeros in [0, 40, 50] {
                let x = matrix([1, k], zeros, 5);
                let active = x.clone().not_equal_elem(0.0).int().sum().into_scalar() as usize;
                let bytes = n * active * dtype.size();
                let streams: Vec<_> = rows.iter().map(|_| roofs::ReadStream::new(bytes)).collect();
                let by_row = |i: usize| drop(Flex::project(x.clone(), rows[i].clone(), None));
                let by_channel = |i: usize| {
                    drop(Flex::project_channels(x.clone(), channels[i].clone(), n, None));
                };
                let stream = |i: usize| _ = streams[i].read();
                let [dense, sparse, roof] = least(8, rows.len(), [&by_row, &by_channel, &stream]);
                println!(
                    "{dtype:?} {n:>5}x{k:<5} {zeros:>2} % zeros: rows {dense:7.0} us, channels \
                     {sparse:7.0} us, {:.2}x, roof of reduced bytes {roof:7.0} us, {:.0} %",
                    dense / sparse,
                    100.0 * roof / sparse
                );
            }
        }
    }
}

#[test]
#[ignore = "measures"]
fn many_tokens_from_the_same_bytes() {
    println!("{} threads", team::num_threads());
    for dtype in DTYPES {
        for [n, k] in SHAPES {
            let mut rows = copies([n, k], dtype);
            for t in [2, 3, 4, 8, 16, 32, 64, 512] {
                // Arithmetic takes longer than memory, and few matrices are enough.
                rows.truncate(if t >= 64 { 4 } else { rows.len() });
                let channels: Vec<_> = rows.iter().map(|w| channel_tiles(w.clone())).collect();
                let x = matrix([t, k], 0, 5);
                let by_row = |i: usize| drop(Flex::project(x.clone(), rows[i].clone(), None));
                let by_channel = |i: usize| {
                    drop(Flex::project_channels(x.clone(), channels[i].clone(), n, None));
                };
                let [by_row, by_channel] = least(4, rows.len(), [&by_row, &by_channel]);
                println!(
                    "{dtype:?} {n:>5}x{k:<5} {t:>3} tokens: rows {by_row:8.0} us, channels \
                     {by_channel:8.0} us, {:.2}x",
                    by_row / by_channel
                );
            }
        }
    }
}
