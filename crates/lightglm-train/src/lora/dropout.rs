//! Dropout whose masks can be made again. Shapes: `T` rows, `K` features.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::random::{mix, unit};

/// Decides the masks of all adapters that share it.
///
/// Masks are a function of this number, the adapter and the place in the tensor. So a block that is
/// computed a second time has the same mask, and a resumed run the masks that it would have had.
/// 0 switches dropout off, which is how a model that is not being trained stays deterministic.
#[derive(Clone, Debug, Default)]
pub struct DropoutSeed(Arc<AtomicU64>);

impl DropoutSeed {
    /// Sets the number; a trainer does so before each batch.
    pub fn set(&self, seed: u64) {
        self.0.store(seed, Ordering::Relaxed);
    }

    /// Zeroes a share of `x: [T, K]` and scales the rest up to keep the mean.
    pub(super) fn apply<B: Backend>(
        &self,
        x: Tensor<B, 2>,
        share: f64,
        stream: u64,
    ) -> Tensor<B, 2> {
        let seed = self.0.load(Ordering::Relaxed);
        if share == 0.0 || seed == 0 {
            return x;
        }
        let (stream, kept) = (mix(stream ^ mix(seed)), (1.0 / (1.0 - share)) as f32);
        let shape = x.dims();
        let mask = |i| if unit(stream, i) < share as f32 { 0.0 } else { kept };
        let mask: Vec<f32> = (0..(shape[0] * shape[1]) as u64).map(mask).collect();
        let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device());
        x * mask
    }
}
