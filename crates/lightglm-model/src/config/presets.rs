//! Named shapes.

use super::{GlmConfig, ModelType, RopeParameters, RopeScaling};

impl GlmConfig {
    /// GLM-4-9B-0414.
    ///
    /// Source: `config.json` of zai-org/GLM-4-9B-0414.
    pub fn glm4_9b_0414() -> Self {
        Self {
            model_type: ModelType::Glm4,
            hidden_size: 4096,
            num_hidden_layers: 40,
            num_attention_heads: 32,
            num_key_value_heads: 2,
            head_dim: 128,
            intermediate_size: 13_696,
            vocab_size: 151_552,
            rms_norm_eps: 1e-5,
            attention_bias: true,
            tie_word_embeddings: false,
            max_position_embeddings: 32_768,
            rope: RopeParameters {
                rope_theta: 10_000.0,
                partial_rotary_factor: 0.5,
                scaling: RopeScaling::None,
                mrope_section: None,
            },
            eos_token_ids: vec![151_329, 151_336, 151_338],
            pad_token_id: Some(151_329),
            bos_token_id: None,
            dtype: Some("bfloat16".into()),
        }
    }

    /// The middle shape of the benchmarks: 376 M parameters, GLM-4's proportions. It has no token
    /// that ends a generation, so a benchmark runs its full length.
    pub fn mid() -> Self {
        Self {
            hidden_size: 1024,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            num_key_value_heads: 2,
            head_dim: 64,
            intermediate_size: 3424,
            vocab_size: 32_768,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
            ..Self::glm4_9b_0414()
        }
    }

    /// A shape for tests and first tries: 0.1 M parameters, in milliseconds.
    pub fn tiny() -> Self {
        Self {
            hidden_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 16,
            intermediate_size: 112,
            vocab_size: 320,
            max_position_embeddings: 512,
            ..Self::mid()
        }
    }
}
