//! The tensors of encoders, as their checkpoints have them.

use super::{AudioConfig, VisionConfig};

/// Frames of a convolution's kernel.
const KERNEL: usize = 3;

type Shapes = Vec<(String, Vec<usize>)>;

impl VisionConfig {
    /// Every tensor of the tower by its Hugging Face name, with its shape.
    pub fn tensor_shapes(&self) -> Shapes {
        let (d, out, m) = (self.hidden_size, self.out_hidden_size, self.spatial_merge_size);
        let (p, inner, colours) = (self.patch_size, self.merger_size, self.in_channels);
        let mut shapes = Shapes::new();
        let mut add = |name: &str, shape: &[usize]| {
            shapes.push((format!("model.visual.{name}"), shape.to_vec()));
        };
        add("patch_embed.proj.weight", &[d, colours, self.temporal_patch_size, p, p]);
        add("patch_embed.proj.bias", &[d]);
        if !self.is_ocr {
            add("post_conv_layernorm.weight", &[d]);
            let positions = self.table_side() * self.table_side();
            add("embeddings.position_embedding.weight", &[positions, d]);
        }
        for block in 0..self.depth {
            let mut add =
                |name: &str, shape: &[usize]| add(&format!("blocks.{block}.{name}"), shape);
            add("norm1.weight", &[d]);
            add("norm2.weight", &[d]);
            add("attn.qkv.weight", &[3 * d, d]);
            add("attn.proj.weight", &[d, d]);
            if self.attention_bias {
                add("attn.qkv.bias", &[3 * d]);
            }
            if self.attention_bias && self.is_ocr {
                add("attn.proj.bias", &[d]);
            }
            if self.is_ocr {
                add("attn.q_norm.weight", &[self.head_dim()]);
                add("attn.k_norm.weight", &[self.head_dim()]);
            }
            let mlp = self.mlp_size;
            for (part, shape) in
                [("gate_proj", [mlp, d]), ("up_proj", [mlp, d]), ("down_proj", [d, mlp])]
            {
                add(&format!("mlp.{part}.weight"), &shape);
                if self.is_ocr {
                    add(&format!("mlp.{part}.bias"), &shape[..1]);
                }
            }
        }
        add("post_layernorm.weight", &[d]);
        add("downsample.weight", &[out, d, m, m]);
        add("downsample.bias", &[out]);
        add("merger.proj.weight", &[out, out]);
        add("merger.post_projection_norm.weight", &[out]);
        add("merger.post_projection_norm.bias", &[out]);
        add("merger.gate_proj.weight", &[inner, out]);
        add("merger.up_proj.weight", &[inner, out]);
        add("merger.down_proj.weight", &[out, inner]);
        shapes
    }
}

impl AudioConfig {
    /// Every tensor of the encoder by its Hugging Face name, with its shape.
    pub fn tensor_shapes(&self) -> Shapes {
        let (d, inner, out) = (self.hidden_size, self.intermediate_size, self.out_hidden_size);
        let kv = self.num_key_value_heads * self.head_dim();
        let mut shapes = Shapes::new();
        let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
        for (conv, channels) in [("conv1", self.num_mel_bins), ("conv2", d)] {
            add(format!("audio_tower.{conv}.weight"), &[d, channels, KERNEL]);
            add(format!("audio_tower.{conv}.bias"), &[d]);
        }
        for layer in 0..self.num_hidden_layers {
            let name = |part: &str| format!("audio_tower.layers.{layer}.{part}");
            for (part, shape, bias) in [
                ("self_attn.q_proj", [d, d], true),
                ("self_attn.k_proj", [kv, d], false),
                ("self_attn.v_proj", [kv, d], true),
                ("self_attn.o_proj", [d, d], true),
                ("mlp.fc1", [inner, d], true),
                ("mlp.fc2", [d, inner], true),
            ] {
                add(name(&format!("{part}.weight")), &shape);
                if bias {
                    add(name(&format!("{part}.bias")), &shape[..1]);
                }
            }
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                add(name(&format!("{norm}.weight")), &[d]);
                add(name(&format!("{norm}.bias")), &[d]);
            }
        }
        add("audio_tower.norm.weight".to_owned(), &[d]);
        add("audio_tower.norm.bias".to_owned(), &[d]);
        for (part, shape) in [("linear_1", [2 * out, inner]), ("linear_2", [out, 2 * out])] {
            add(format!("multi_modal_projector.{part}.weight"), &shape);
            add(format!("multi_modal_projector.{part}.bias"), &shape[..1]);
        }
        shapes
    }
}
