//! A projection in its stored precision, channel by channel.
//!
//! Shapes: `T` rows, `K` in_features (channels), `N` out_features, `R` rows of `W` in a tile.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::Linear;
use lightglm_kernels::{LmBackend, channel_tiles};

use super::dense_linear::{DenseLinear, bytes};

/// `y = x W^T + b` with the weights of an input channel side by side, so that channels that are zero
/// need not be read: what a sparsity policy is put before.
///
/// Sums run in the order of channels, so outputs differ from those of [`DenseLinear`] by rounding.
#[derive(Module, Debug)]
pub struct ChannelLinear<B: Backend> {
    /// `[tiles, K, R]`, as [`channel_tiles`] lays out `[N, K]`.
    pub weight: Param<Tensor<B, 3>>,
    /// `[N]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// `N`.
    pub out_features: usize,
}

impl<B: LmBackend> From<DenseLinear<B>> for ChannelLinear<B> {
    /// The same matrix in the other order; the old one is freed where no one else holds it.
    fn from(DenseLinear { weight, bias }: DenseLinear<B>) -> Self {
        let weight = weight.into_value();
        let [out_features, _] = weight.dims();
        Self { weight: Param::from_tensor(channel_tiles(weight)), bias, out_features }
    }
}

impl<B: LmBackend> Linear<B> for ChannelLinear<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let bias = self.bias.as_ref().map(Param::val);
        B::project_channels(x, self.weight.val(), self.out_features, bias)
    }

    fn shape(&self) -> [usize; 2] {
        let [_, in_features, _] = self.weight.dims();
        [self.out_features, in_features]
    }

    /// Of all channels: how much less is read depends on the token.
    fn bytes_read(&self) -> usize {
        let [out_features, in_features] = self.shape();
        let bias = self.bias.as_ref().map_or(0, |bias| bytes(&bias.val()));
        out_features * in_features * self.weight.val().dtype().size() + bias
    }
}
