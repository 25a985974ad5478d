//! What follows from a configuration: tensors, parameters, bytes.
//!
//! Shapes: `D` hidden_size, `F` intermediate_size, `H` heads, `K` kv heads, `V` vocab.

use lightglm_core::KvShape;

use super::{GlmConfig, ModelType};

impl From<&GlmConfig> for KvShape {
    fn from(config: &GlmConfig) -> Self {
        Self {
            layers: config.num_hidden_layers,
            key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        }
    }
}

impl GlmConfig {
    /// Elements of each head that are rotated: `head_dim * partial_rotary_factor`, cut to an integer.
    pub fn rotary_dim(&self) -> usize {
        (self.head_dim as f64 * self.rope.partial_rotary_factor) as usize
    }

    /// Whether a block has the two norms after attention and feed-forward.
    pub fn has_post_norms(&self) -> bool {
        self.model_type == ModelType::Glm4
    }

    /// Whether each head of q and of k is normalized before it is rotated.
    pub fn has_qk_norms(&self) -> bool {
        self.model_type == ModelType::GlmQkNorm
    }

    /// Rows of the query projection, `H * head_dim`.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Rows of the key projection and of the value projection, `K * head_dim`.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Parameters of the model; a tied head counts once.
    pub fn num_parameters(&self) -> u64 {
        self.count_parameters() as u64
    }

    /// Parameters that one decode step reads: all of them, but only one row of the embedding table.
    /// The head counts, tied or not.
    pub fn parameters_read_per_token(&self) -> u64 {
        let table = self.vocab_size as u64 * self.hidden_size as u64;
        let head = if self.tie_word_embeddings { table } else { 0 };
        self.num_parameters() - table + head + self.hidden_size as u64
    }

    /// Bytes of keys and values that one token adds to the cache, all layers together.
    pub fn kv_bytes_per_token(&self, bytes_per_element: usize) -> u64 {
        2 * self.num_hidden_layers as u64 * (self.key_value_size() * bytes_per_element) as u64
    }

    /// Every tensor the model needs by its Hugging Face name, with its shape, in the model's order.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (d, v) = (self.hidden_size, self.vocab_size);
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![v, d])];
        for layer in 0..self.num_hidden_layers {
            tensors.extend(
                self.layer_shapes()
                    .into_iter()
                    .map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape)),
            );
        }
        tensors.push(("model.norm.weight".to_owned(), vec![d]));
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![v, d]));
        }
        tensors
    }

    /// The shape of the tensor `name`, or `None` where the model has no such tensor.
    pub fn tensor_shape(&self, name: &str) -> Option<Vec<usize>> {
        let (d, v) = (self.hidden_size, self.vocab_size);
        match name {
            "model.embed_tokens.weight" => Some(vec![v, d]),
            "lm_head.weight" => (!self.tie_word_embeddings).then(|| vec![v, d]),
            "model.norm.weight" => Some(vec![d]),
            _ => {
                let (layer, name) = name.strip_prefix("model.layers.")?.split_once('.')?;
                let index: usize = layer.parse().ok()?;
                if index >= self.num_hidden_layers || index.to_string() != layer {
                    return None;
                }
                let mut shapes = self.layer_shapes().into_iter();
                shapes.find_map(|(known, shape)| (known == name).then_some(shape))
            }
        }
    }

    /// The tensors of one block, named from the block on.
    fn layer_shapes(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.query_size(), self.key_value_size());
        let mut tensors =
            vec![("input_layernorm.weight", vec![d]), ("post_attention_layernorm.weight", vec![d])];
        if self.has_post_norms() {
            tensors.push(("post_self_attn_layernorm.weight", vec![d]));
            tensors.push(("post_mlp_layernorm.weight", vec![d]));
        }
        tensors.push(("self_attn.q_proj.weight", vec![q, d]));
        tensors.push(("self_attn.k_proj.weight", vec![kv, d]));
        tensors.push(("self_attn.v_proj.weight", vec![kv, d]));
        if self.attention_bias {
            tensors.push(("self_attn.q_proj.bias", vec![q]));
            tensors.push(("self_attn.k_proj.bias", vec![kv]));
            tensors.push(("self_attn.v_proj.bias", vec![kv]));
        }
        if self.has_qk_norms() {
            tensors.push(("self_attn.q_norm.weight", vec![self.head_dim]));
            tensors.push(("self_attn.k_norm.weight", vec![self.head_dim]));
        }
        tensors.push(("self_attn.o_proj.weight", vec![d, q]));
        tensors.push(("mlp.gate_up_proj.weight", vec![2 * f, d]));
        tensors.push(("mlp.down_proj.weight", vec![d, f]));
        tensors
    }

    /// Parameters in a width that cannot overflow for any checked size.
    pub(super) fn count_parameters(&self) -> u128 {
        let elements = |shape: &[usize]| shape.iter().map(|&n| n as u128).product::<u128>();
        let layer: u128 = self.layer_shapes().iter().map(|(_, shape)| elements(shape)).sum();
        let table = self.vocab_size as u128 * self.hidden_size as u128;
        let head = if self.tie_word_embeddings { 0 } else { table };
        table + head + layer * self.num_hidden_layers as u128 + self.hidden_size as u128
    }
}
