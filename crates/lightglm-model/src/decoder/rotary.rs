//! Rotary position embedding: the tables.
//!
//! Shapes: `T` rows, `r` rotary dimensions.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::config::GlmConfig;

/// The angles' frequencies of a model, and the factor YaRN puts on cos and sin.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryEmbedding {
    /// `[r / 2]`, radians per position.
    inv_freq: Vec<f32>,
    /// Factor on cos and sin; 1 without YaRN.
    attention_scaling: f32,
    /// `[r / 2]`: which axis of a position each frequency turns by.
    axes: Vec<usize>,
}

impl RotaryEmbedding {
    /// The embedding that `config` describes.
    pub fn new(config: &GlmConfig) -> Self {
        let (inv_freq, attention_scaling) = config.rope.inv_freq(config.rotary_dim());
        let axes = match config.rope.mrope_section {
            None => vec![0; inv_freq.len()],
            Some(section) => (0..3).flat_map(|axis| vec![axis; section[axis]]).collect(),
        };
        Self { inv_freq, attention_scaling, axes }
    }

    /// `(cos, sin)`, each `[T, r / 2]`, for the rows' positions `[time, height, width]`.
    ///
    /// The angle is the f32 product of position and frequency, as in the reference. With M-RoPE the frequencies
    /// are shared out between the axes; without, all turn by the first. A text's axes are equal, which gives the
    /// same bits either way.
    ///
    /// Source: transformers 5.23.0, `modeling_glm4v.py`, `apply_mrope`.
    pub fn tables<B: Backend>(
        &self,
        positions: &[[u32; 3]],
        device: &B::Device,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let shape = [positions.len(), self.inv_freq.len()];
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        cos.reserve_exact(shape[0] * shape[1]);
        sin.reserve_exact(shape[0] * shape[1]);
        for position in positions {
            for (&frequency, &axis) in self.inv_freq.iter().zip(&self.axes) {
                let (s, c) = (position[axis] as f32 * frequency).sin_cos();
                cos.push(c * self.attention_scaling);
                sin.push(s * self.attention_scaling);
            }
        }
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), device);
        (tensor(cos), tensor(sin))
    }
}
