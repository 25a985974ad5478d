//! Projections with packed weights, beside a stream of as many bytes (few tokens) and the int8 peak
//! (many); packing, and choosing rows, in seconds.

use std::time::Instant;

use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::{self, PackedWeights, Scales, roofs, team};
use lightglm_kernels::{
    ActivationBits, ActivationFormat, PackedMatrix, QuantizedMatrix, ScaleDtype, WeightBits,
};

use crate::Extent;
use crate::best_times::{best, best_of_parts};

const EIGHT: ActivationFormat = ActivationFormat::INT8_PER_TOKEN;
const SIXTEEN: ActivationFormat =
    ActivationFormat { bits: ActivationBits::Sixteen, group_size: None };
const EIGHT_G32: ActivationFormat =
    ActivationFormat { bits: ActivationBits::Eight, group_size: Some(32) };
const SIXTEEN_G32: ActivationFormat =
    ActivationFormat { bits: ActivationBits::Sixteen, group_size: Some(32) };
const SIXTEEN_G16: ActivationFormat =
    ActivationFormat { bits: ActivationBits::Sixteen, group_size: Some(16) };
const ROW: usize = usize::MAX;

/// Name, bits, group, minimums, activations.
type Format = (&'static str, WeightBits, usize, bool, ActivationFormat);

const FORMATS: [Format; 11] = [
    ("int8 row", WeightBits::Eight, ROW, false, EIGHT),
    ("int8 row a16", WeightBits::Eight, ROW, false, SIXTEEN),
    ("int8 g128", WeightBits::Eight, 128, false, EIGHT),
    ("int8 g64", WeightBits::Eight, 64, false, EIGHT),
    ("int4 g128", WeightBits::Four, 128, false, EIGHT),
    ("int4 g64", WeightBits::Four, 64, false, EIGHT),
    ("int4 g32 minimums a16", WeightBits::Four, 32, true, SIXTEEN),
    ("int4 g32 a8 g32", WeightBits::Four, 32, false, EIGHT_G32),
    ("int4 g32 a16 g32", WeightBits::Four, 32, false, SIXTEEN_G32),
    ("int8 g32 a16 g32", WeightBits::Eight, 32, false, SIXTEEN_G32),
    ("int8 g16 a16 g16", WeightBits::Eight, 16, false, SIXTEEN_G16),
];

struct Matrix {
    packed: PackedMatrix<Flex>,
    codes: Vec<u8>,
    at: usize,
    scales: Vec<half::f16>,
}

impl Matrix {
    fn new([n, k]: [usize; 2], (_, bits, group, minimums, activation): Format) -> Self {
        let group_size = group.min(k);
        let scales = n * k.div_ceil(group_size);
        let plain = QuantizedMatrix {
            shape: [n, k],
            bits,
            group_size,
            codes: (0..n * k).map(|i| (i * 7 % 16) as u8).collect(),
            scales: vec![0.01; scales],
            minimums: minimums.then(|| vec![0.01; scales]),
        };
        let packed = PackedMatrix::pack(&plain, ScaleDtype::F16, activation, &FlexDevice);
        let packed = packed.expect("fits");
        let bytes = packed.codes.val().into_data().to_vec::<u8>().expect("u8");
        let scales = packed.scales.val().into_data().to_vec::<half::f16>().expect("f16");
        // On a cache line, as packed matrices and mapped files have them.
        let mut codes = vec![0; bytes.len() + 64];
        let at = codes.as_ptr().align_offset(64);
        codes[at..at + bytes.len()].copy_from_slice(&bytes);
        Self { packed, codes, at, scales }
    }

    fn weights(&self) -> PackedWeights<'_> {
        let format = *self.packed.format();
        PackedWeights {
            shape: self.packed.shape(),
            format,
            codes: &self.codes[self.at..][..self.codes.len() - 64],
            scales: Scales::F16(&self.scales),
            minimums: format.has_minimums.then_some(Scales::F16(&self.scales)),
        }
    }
}

/// `tokens` at a time through matrices of `shapes`, `layers` times.
fn stream(extent: Extent, shapes: &[[usize; 2]], layers: usize, tokens: &[usize]) {
    for &format in extent.of(&FORMATS) {
        let all: Vec<Matrix> = (0..layers)
            .flat_map(|_| shapes.iter().map(|&shape| Matrix::new(shape, format)))
            .collect();
        let bytes: usize = all.iter().map(|m| m.packed.bytes()).sum();
        let weights: usize = all.iter().map(|m| m.packed.shape().iter().product::<usize>()).sum();
        let pieces: Vec<_> = (0..32).map(|_| roofs::ReadStream::new(4 << 20)).collect();
        for &t in extent.of(tokens) {
            let longest = all
                .iter()
                .map(|m| m.packed.shape())
                .fold([0, 0], |a, b| [a[0].max(b[0]), a[1].max(b[1])]);
            let x: Vec<f32> = (0..t * longest[1]).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
            let mut y = vec![0.0f32; t * longest[0]];
            let mut times = vec![f64::INFINITY; all.len()];
            let mut roof = vec![f64::INFINITY; pieces.len()];
            for _ in 0..extent.rounds(12) {
                for (piece, best) in pieces.iter().zip(&mut roof) {
                    *best = best.min(piece.read());
                }
                for (matrix, best) in all.iter().zip(&mut times) {
                    let [n, k] = matrix.packed.shape();
                    let start = Instant::now();
                    cpu::linear_packed(&x[..t * k], &matrix.weights(), None, &mut y[..t * n]);
                    *best = best.min(start.elapsed().as_secs_f64());
                }
            }
            let seconds: f64 = times.iter().sum();
            let read: usize = pieces.iter().map(roofs::ReadStream::size_in_bytes).sum();
            let roof = read as f64 / roof.iter().sum::<f64>() / 1e9;
            let speed = bytes as f64 / seconds / 1e9;
            println!(
                "{}, {t} tokens: {:.2} ms, {speed:.1} of {roof:.1} GB/s ({:.0} %), {:.0} GOP/s",
                format.0,
                seconds * 1e3,
                100.0 * speed / roof,
                2.0 * (t * weights) as f64 / seconds / 1e9
            );
        }
    }
}

/// The matrices of the mid shape (346 M weights without embeddings).
pub(crate) fn middle(extent: Extent) {
    stream(
        extent,
        &[[1280, 1024], [1024, 1024], [6848, 1024], [1024, 3424]],
        24,
        &[1, 2, 4, 8, 16],
    );
}

/// Some matrices of the 9B shape.
pub(crate) fn large(extent: Extent) {
    stream(extent, &[[27392, 4096], [4096, 13696]], 2, &[1]);
}

/// 512 tokens.
pub(crate) fn prefill(extent: Extent) {
    let (threads, t) = (team::num_threads(), 512);
    for &[n, k] in extent.of(&[[1024, 1024], [6848, 1024], [1024, 3424], [4096, 13696]]) {
        for &format in extent.of(&FORMATS) {
            let matrix = Matrix::new([n, k], format);
            let x: Vec<f32> = (0..t * k).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
            let mut y = vec![0.0f32; t * n];
            let (mut seconds, mut roof) = (f64::INFINITY, 0.0f64);
            for _ in 0..extent.rounds(6) {
                let once = best(1, || cpu::linear_packed(&x, &matrix.weights(), None, &mut y));
                seconds = seconds.min(once);
                roof = roof.max(roofs::int8_dot_gops(threads));
            }
            let speed = 2.0 * (t * n * k) as f64 / seconds / 1e9;
            println!(
                "{n} x {k} {}: {speed:.0} of {roof:.0} GOP/s ({:.0} %)",
                format.0,
                100.0 * speed / roof
            );
        }
    }
}

/// A matrix of the 9B shape, there and back.
pub(crate) fn packing(_: Extent) {
    let start = Instant::now();
    let matrix = Matrix::new([27392, 4096], FORMATS[0]);
    let made = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let plain = matrix.packed.unpack();
    let unpacked = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let again = PackedMatrix::<Flex>::pack(&plain, ScaleDtype::F16, EIGHT, &FlexDevice);
    println!(
        "{} bytes: made in {made:.2} s, unpacked in {unpacked:.2} s, packed in {:.2} s",
        again.expect("fits").bytes(),
        start.elapsed().as_secs_f64()
    );
}

/// Half of the rows of the gate and up projections of the mid shape, once: what a prompt waits for.
pub(crate) fn select_rows(extent: Extent) {
    let matrix =
        Matrix::new([6848, 1024], ("int8 g64", WeightBits::Eight, 64, false, EIGHT)).packed;
    let rows: Vec<usize> = (0..6848).filter(|row| row * 7919 % 13 < 7).collect();
    let (rounds, layers) = (extent.rounds(5), 24);
    let mut chosen = Vec::with_capacity(layers);
    let all = best(rounds, || {
        chosen.clear();
        chosen.extend((0..layers).map(|_| matrix.select_rows(&rows).expect("rows that are there")));
    });
    let copied = best_of_parts(rounds, layers, |_| drop(matrix.codes.val().into_data()));
    println!(
        "{:.0} ms for {layers} layers, of which reading back {:.0} ms",
        all * 1e3,
        copied * 1e3
    );
}
