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
    let values: Vec<f32> = (0..shape[0] * shape[1])
        .map(|_| if rng.next() % 100 < zeros { 0.0 } else { rng.unit() + 1.5 })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &FlexDevice)
}

/// The least time of each of `works` in seconds, over rounds in which they take turns.
fn least<const W: usize>(rounds: usize, works: [&dyn Fn(); W]) -> [f64; W] {
    let mut best = [f64::INFINITY; W];
    for _ in 0..rounds {
        for (best, work) in best.iter_mut().zip(works) {
            let from = Instant::now();
            work();
            *best = best.min(from.elapsed().as_secs_f64());
        }
    }
    best
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
                let stream = roofs::ReadStream::new(n * active * dtype.size() * rows.len());
                let by_row =
                    || rows.iter().for_each(|w| drop(Flex::project(x.clone(), w.clone(), None)));
                let by_channel = || {
                    for w in &channels {
                        drop(Flex::project_channels(x.clone(), w.clone(), n, None));
                    }
                };
                let seconds = least(6, [&by_row, &by_channel, &|| drop(stream.read())]);
                let [dense, sparse, roof] = seconds.map(|s| s * 1e6 / rows.len() as f64);
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
                let by_row =
                    || rows.iter().for_each(|w| drop(Flex::project(x.clone(), w.clone(), None)));
                let by_channel = || {
                    for w in &channels {
                        drop(Flex::project_channels(x.clone(), w.clone(), n, None));
                    }
                };
                let seconds = least(4, [&by_row, &by_channel]);
                let [by_row, by_channel] = seconds.map(|s| s * 1e6 / rows.len() as f64);
                println!(
                    "{dtype:?} {n:>5}x{k:<5} {t:>3} tokens: rows {by_row:8.0} us, channels \
                     {by_channel:8.0} us, {:.2}x",
                    by_row / by_channel
                );
            }
        }
    }
}
