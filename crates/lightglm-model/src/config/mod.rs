//! Configuration: Hugging Face's `config.json` and `generation_config.json`, parsed into values that
//! are possible.
//!
//! ```
//! use lightglm_model::config::GlmConfig;
//! let config = GlmConfig::glm4_9b_0414();
//! assert_eq!(config.rotary_dim(), 64);
//! assert_eq!(config.num_parameters(), 9_400_279_040);
//! assert!(GlmConfig::from_json(r#"{"model_type": "glm4", "num_key_value_heads": 3}"#).is_err());
//! ```

mod chatglm;
mod encoder_config;
mod error;
mod fields;
mod generation_config;
mod glm_config;
mod llama_family;
mod media_config;
mod media_shapes;
mod preprocessor_config;
mod presets;
mod rope;
mod sentence_config;
mod shapes;

pub use encoder_config::{EncoderActivation, EncoderConfig, Positions, ScoreActivation};
pub use error::ConfigError;
pub use generation_config::GenerationConfig;
pub use glm_config::{ADAPTERS_KEY, GlmConfig, Layouts, ModelType, WeightLayout};
pub use media_config::{AudioConfig, MediaConfig, VisionConfig};
pub use preprocessor_config::PreprocessorConfig;
pub use rope::{RopeParameters, RopeScaling};
pub use sentence_config::{DenseActivation, Pooling, SentenceConfig, SentenceStep};
