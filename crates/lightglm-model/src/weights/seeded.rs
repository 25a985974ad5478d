//! `SeededWeights`: random weights of a configuration's shapes, the same on every machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use lightglm_core::{TensorView, WeightDtype, WeightError, WeightSource};
use rayon::prelude::*;

use crate::config::GlmConfig;

/// Elements that share one state of the generator; the unit of parallel work.
pub(super) const CHUNK: usize = 1 << 16;

/// Standard deviation of embeddings, biases and of the norms' distance from 1.
const SMALL: f32 = 0.02;

/// A model with random weights: a weight source without a file.
///
/// Projections have a standard deviation of `1 / sqrt(in_features)`, so that activations keep their
/// scale through any number of layers; embeddings and biases have 0.02, norms `1 ± 0.02`. A value
/// depends on the seed, the tensor's name and its place in the tensor alone, not on the number of
/// threads. It is the sum of four uniform numbers: near enough to normal for tests and benchmarks,
/// and an order of magnitude cheaper.
#[derive(Clone, Debug)]
pub struct SeededWeights {
    shapes: Shapes,
    dtype: WeightDtype,
    seed: u64,
}

/// Which tensors there are.
#[derive(Clone, Debug)]
enum Shapes {
    Config(Box<GlmConfig>),
    Named(BTreeMap<String, Vec<usize>>),
}

impl SeededWeights {
    /// Weights for `config` in the precision `dtype`.
    pub fn new(config: GlmConfig, dtype: WeightDtype, seed: u64) -> Self {
        Self { shapes: Shapes::Config(Box::new(config)), dtype, seed }
    }

    /// The configuration the weights are for; `None` for those of an encoder.
    pub fn config(&self) -> Option<&GlmConfig> {
        match &self.shapes {
            Shapes::Config(config) => Some(config),
            Shapes::Named(_) => None,
        }
    }

    /// Weights of these names and shapes: an encoder's. What is no norm, bias or table of positions has the standard deviation
    /// of a projection.
    pub fn of_shapes(
        shapes: impl IntoIterator<Item = (String, Vec<usize>)>,
        dtype: WeightDtype,
        seed: u64,
    ) -> Self {
        Self { shapes: Shapes::Named(shapes.into_iter().collect()), dtype, seed }
    }

    /// Fills `out` with the bytes of the tensor `name` from element `first` on, which is a multiple
    /// of [`CHUNK`].
    pub(super) fn fill(&self, name: &str, shape: &[usize], first: usize, out: &mut [u8]) {
        let (mean, scale) = match &self.shapes {
            Shapes::Config(_) => distribution(name, shape),
            Shapes::Named(_) => encoder_distribution(name, shape),
        };
        let stream = self.stream(name);
        out.par_chunks_mut(CHUNK * self.dtype.size()).enumerate().for_each(|(i, out)| {
            let chunk = (first / CHUNK + i) as u64;
            fill_chunk(SplitMix64::new(stream, chunk), mean, scale, self.dtype, out);
        });
    }

    /// The generator's stream for a tensor: FNV-1a of the name, mixed with the seed.
    fn stream(&self, name: &str) -> u64 {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        mix(hash ^ mix(self.seed.wrapping_add(SplitMix64::STEP)))
    }
}

impl WeightSource for SeededWeights {
    fn names(&self) -> Vec<String> {
        match &self.shapes {
            Shapes::Config(config) => {
                let mut names: Vec<_> =
                    config.tensor_shapes().into_iter().map(|(name, _)| name).collect();
                names.sort();
                names
            }
            Shapes::Named(shapes) => shapes.keys().cloned().collect(),
        }
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.shapes {
            Shapes::Config(config) => config.tensor_shape(name),
            Shapes::Named(shapes) => shapes.get(name).cloned(),
        }
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let Some(shape) = self.shape(name) else {
            let file = PathBuf::from("(seeded weights)");
            return Err(WeightError::Missing { file, name: name.into() });
        };
        let mut bytes = vec![0; shape.iter().product::<usize>() * self.dtype.size()];
        self.fill(name, &shape, 0, &mut bytes);
        Ok(TensorView { dtype: self.dtype, shape, bytes: Bytes::from(bytes) })
    }
}

/// Mean and standard deviation of a tensor's elements.
fn distribution(name: &str, shape: &[usize]) -> (f32, f32) {
    if name.ends_with("norm.weight") {
        (1.0, SMALL)
    } else if name.ends_with("_proj.weight") || name == "lm_head.weight" {
        let in_features = shape.last().copied().unwrap_or(1);
        (0.0, (in_features as f32).sqrt().recip())
    } else {
        (0.0, SMALL)
    }
}

/// The same for an encoder's tensors; convolutions are projections of all that their kernel covers.
fn encoder_distribution(name: &str, shape: &[usize]) -> (f32, f32) {
    match shape {
        [_] if name.contains("norm") && name.ends_with(".weight") => (1.0, SMALL),
        [_, inputs @ ..] if !inputs.is_empty() && !name.contains("embedding") => {
            (0.0, (inputs.iter().product::<usize>().max(1) as f32).sqrt().recip())
        }
        _ => (0.0, SMALL),
    }
}

/// Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", with the
/// constants of java.util.SplittableRandom.
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    fn new(stream: u64, chunk: u64) -> Self {
        Self { state: mix(stream ^ mix(chunk.wrapping_add(1).wrapping_mul(Self::STEP))) }
    }

    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(Self::STEP);
        mix(self.state)
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fill_chunk(mut random: SplitMix64, mean: f32, scale: f32, dtype: WeightDtype, out: &mut [u8]) {
    /// Values converted at once.
    const BLOCK: usize = 1024;
    // The sum of four uniform 16-bit integers has the mean 2 (2^16 - 1) and the variance
    // (2^32 - 1) / 3.
    const MEAN: f32 = 131_070.0;
    let unit = scale / (4_294_967_295.0_f32 / 3.0).sqrt();
    let mut values = [0f32; BLOCK];
    for out in out.chunks_mut(BLOCK * dtype.size()) {
        let values = &mut values[..out.len() / dtype.size()];
        for value in values.iter_mut() {
            let word = random.next_u64();
            let sum =
                (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
            *value = (sum as u32 as f32 - MEAN) * unit + mean;
        }
        store(values, dtype, out);
    }
}

/// Writes `values` as little-endian elements of `dtype`.
fn store(values: &[f32], dtype: WeightDtype, out: &mut [u8]) {
    match dtype {
        WeightDtype::F32 => {
            for (out, value) in out.chunks_exact_mut(4).zip(values) {
                out.copy_from_slice(&value.to_le_bytes());
            }
        }
        WeightDtype::F16 => {
            let mut halves = [f16::ZERO; 1024];
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            for (out, value) in out.chunks_exact_mut(2).zip(halves) {
                out.copy_from_slice(&value.to_le_bytes());
            }
        }
        WeightDtype::Bf16 => {
            for (out, value) in out.chunks_exact_mut(2).zip(values) {
                out.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
            }
        }
    }
}
