//! `AnyOrder`: a projection as it was loaded, or in the order that leaves out channels of zeros.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::Linear;
use lightglm_kernels::{CodeOrder, LmBackend};
use lightglm_model::decoder::{ChannelLinear, DenseLinear};
use lightglm_quant::{MatrixWeight, QuantizedLinear};

/// Bytes of a channel's weights from which on a matrix is brought into the order of channels. Shorter
/// runs are read so slowly that leaving half of them out gains nothing: such a matrix gets its mask,
/// and is read whole.
pub const SHORTEST_RUN: usize = 1024;

/// A projection in either order.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has a few hundred of them")]
pub enum AnyOrder<B: Backend> {
    /// Dense or quantized; where quantized, codes have an order of their own.
    AsLoaded(QuantizedLinear<B>),
    /// Dense, channel by channel.
    Channels(ChannelLinear<B>),
}

impl<B: LmBackend> AnyOrder<B> {
    /// `linear` in the order of channels, where those have at least `shortest_run` bytes.
    pub fn by_channel(linear: QuantizedLinear<B>, shortest_run: usize) -> Self {
        if channel_bytes(&linear) < shortest_run {
            return Self::AsLoaded(linear);
        }
        let QuantizedLinear { weight, bias } = linear;
        match weight {
            MatrixWeight::Packed(packed) => {
                let weight = MatrixWeight::Packed(packed.with_order(CodeOrder::Channels));
                Self::AsLoaded(QuantizedLinear { weight, bias })
            }
            MatrixWeight::Dense(weight) => Self::Channels(DenseLinear { weight, bias }.into()),
        }
    }
}

impl<B: LmBackend> Linear<B> for AnyOrder<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::AsLoaded(linear) => linear.forward(x),
            Self::Channels(linear) => linear.forward(x),
        }
    }

    fn shape(&self) -> [usize; 2] {
        match self {
            Self::AsLoaded(linear) => linear.shape(),
            Self::Channels(linear) => linear.shape(),
        }
    }

    fn bytes_read(&self) -> usize {
        match self {
            Self::AsLoaded(linear) => linear.bytes_read(),
            Self::Channels(linear) => linear.bytes_read(),
        }
    }
}

/// Bytes of a channel's weights.
pub(super) fn channel_bytes<B: LmBackend>(linear: &QuantizedLinear<B>) -> usize {
    let [n, _] = linear.shape();
    let bits = match &linear.weight {
        MatrixWeight::Packed(packed) => packed.format().bits.count(),
        MatrixWeight::Dense(weight) => weight.val().dtype().size() * 8,
    };
    n * bits / 8
}
