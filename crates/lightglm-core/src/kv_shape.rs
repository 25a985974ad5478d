//! `KvShape`: how large the keys and values of one position are.

use crate::KvDtype;

/// What a model's KV cache holds for one position: in each of `layers` layers, keys and values of
/// `key_value_heads` heads of `head_dim` channels.
///
/// ```
/// use lightglm_core::{KvDtype, KvShape};
///
/// // GLM-4-9B: 40 KB a position.
/// let shape = KvShape { layers: 40, key_value_heads: 2, head_dim: 128 };
/// assert_eq!(shape.bytes_per_position(KvDtype::Bf16), 40 << 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KvShape {
    /// Layers with a cache of their own (`num_hidden_layers`).
    pub layers: usize,
    /// Heads of keys and values in a layer (`num_key_value_heads`).
    pub key_value_heads: usize,
    /// Channels of a head (`head_dim`).
    pub head_dim: usize,
}

impl KvShape {
    /// The shape of a model's cache, from its configuration.
    pub fn of(config: impl Into<Self>) -> Self {
        config.into()
    }

    /// The same heads in `layers` layers: a cache for a part of the model.
    pub const fn with_layers(self, layers: usize) -> Self {
        Self { layers, ..self }
    }

    /// Bytes of one position stored as `dtype`: keys and values of all layers.
    pub const fn bytes_per_position(self, dtype: KvDtype) -> usize {
        2 * self.layers * self.key_value_heads * dtype.bytes_per_head(self.head_dim)
    }
}
