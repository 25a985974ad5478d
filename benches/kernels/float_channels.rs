//! What is saved where activations are zero and weights are f32 or bf16, and what many tokens cost:
//! channel by channel beside the row-major product, and beside a stream of the bytes that remain.

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::roofs;
use lightglm_kernels::{LmBackend, channel_tiles};
use lightglm_testkit::SplitMix;

use crate::Extent;
use crate::best_times::best_in_turns;

const SHAPES: [[usize; 2]; 4] = [[1024, 1024], [6848, 1024], [1024, 3424], [4096, 4096]];
const DTYPES: [DType; 2] = [DType::BF16, DType::F32];

/// `[rows, columns]`, of which `zeros` in a hundred are zero.
fn matrix(shape: [usize; 2], zeros: usize, seed: u64) -> Tensor<Flex, 2> {
    let mut rng = SplitMix::new(seed);
    let value = |_| if rng.below(100) < zeros { 0.0 } else { rng.next_f32() + 1.5 };
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(value).collect();
    Tensor::from_data(TensorData::new(values, shape), &FlexDevice)
}

/// A weight often enough that it is out of the cache the next time.
fn copies(shape: [usize; 2], dtype: DType) -> Vec<Tensor<Flex, 2>> {
    let count = (240 << 20) / (shape[0] * shape[1] * dtype.size()) + 1;
    let one = matrix(shape, 0, 7).cast(dtype);
    (0..count).map(|_| Tensor::from_data(one.to_data(), (&FlexDevice, dtype))).collect()
}

/// One token.
pub(crate) fn zeros(extent: Extent) {
    for &dtype in extent.of(&DTYPES) {
        for &[n, k] in extent.of(&SHAPES) {
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
                let works: [&dyn Fn(usize); 3] = [&by_row, &by_channel, &stream];
                let times = best_in_turns(extent.rounds(8), rows.len(), works);
                let [dense, sparse, roof] = times.map(|seconds| seconds * 1e6 / rows.len() as f64);
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

/// Many tokens from the same bytes.
pub(crate) fn tokens(extent: Extent) {
    for &dtype in extent.of(&DTYPES) {
        for &[n, k] in extent.of(&SHAPES) {
            let mut rows = copies([n, k], dtype);
            for &t in extent.of(&[2, 3, 4, 8, 16, 32, 64, 512]) {
                // Arithmetic takes longer than memory, and few matrices are enough.
                rows.truncate(if t >= 64 { 4 } else { rows.len() });
                let channels: Vec<_> = rows.iter().map(|w| channel_tiles(w.clone())).collect();
                let x = matrix([t, k], 0, 5);
                let by_row = |i: usize| drop(Flex::project(x.clone(), rows[i].clone(), None));
                let by_channel = |i: usize| {
                    drop(Flex::project_channels(x.clone(), channels[i].clone(), n, None));
                };
                let works: [&dyn Fn(usize); 2] = [&by_row, &by_channel];
                let times = best_in_turns(extent.rounds(4), rows.len(), works);
                let [by_row, by_channel] = times.map(|seconds| seconds * 1e6 / rows.len() as f64);
                println!(
                    "{dtype:?} {n:>5}x{k:<5} {t:>3} tokens: rows {by_row:8.0} us, channels \
                     {by_channel:8.0} us, {:.2}x",
                    by_row / by_channel
                );
            }
        }
    }
}
