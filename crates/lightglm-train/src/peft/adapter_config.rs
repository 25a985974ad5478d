//! `adapter_config.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::PeftError;
use crate::lora::LoraConfig;

/// The fields that matter here; PEFT fills in the others, and those that change the arithmetic are
/// refused where they are set.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AdapterConfig {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    target_modules: Value,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default, skip_serializing)]
    use_dora: bool,
    #[serde(default, skip_serializing)]
    rank_pattern: Value,
    #[serde(default, skip_serializing)]
    alpha_pattern: Value,
    #[serde(default, skip_serializing)]
    modules_to_save: Value,
}

fn none() -> String {
    "none".into()
}

impl AdapterConfig {
    pub(super) fn new(config: &LoraConfig, base_model: Option<&str>) -> Self {
        Self {
            peft_type: "LORA".into(),
            task_type: Some("CAUSAL_LM".into()),
            base_model_name_or_path: base_model.map(str::to_owned),
            r: config.rank,
            lora_alpha: config.alpha,
            lora_dropout: config.dropout,
            target_modules: config.target_modules.clone().into(),
            use_rslora: config.use_rslora,
            bias: none(),
            fan_in_fan_out: false,
            inference_mode: true,
            use_dora: false,
            rank_pattern: Value::Null,
            alpha_pattern: Value::Null,
            modules_to_save: Value::Null,
        }
    }

    pub(super) fn parse(file: &Path, text: &[u8]) -> Result<Self, PeftError> {
        let mut json = serde_json::Deserializer::from_slice(text);
        serde_path_to_error::deserialize(&mut json)
            .map_err(|error| PeftError::malformed(file, error))
    }

    /// As a configuration of this crate, whose targets are `modules`.
    pub(super) fn into_lora(
        self,
        file: &Path,
        modules: Vec<String>,
    ) -> Result<LoraConfig, PeftError> {
        let unsupported = |field, value: &dyn ToString| PeftError::Unsupported {
            file: file.to_path_buf(),
            field,
            value: value.to_string(),
        };
        if !self.peft_type.eq_ignore_ascii_case("lora") {
            return Err(unsupported("peft_type", &self.peft_type));
        }
        if self.bias != "none" {
            return Err(unsupported("bias", &self.bias));
        }
        if self.use_dora {
            return Err(unsupported("use_dora", &true));
        }
        if self.fan_in_fan_out {
            return Err(unsupported("fan_in_fan_out", &true));
        }
        let patterns = [
            ("rank_pattern", &self.rank_pattern),
            ("alpha_pattern", &self.alpha_pattern),
            ("modules_to_save", &self.modules_to_save),
        ];
        for (field, value) in patterns {
            let empty = match value {
                Value::Null => true,
                Value::Object(map) => map.is_empty(),
                Value::Array(list) => list.is_empty(),
                _ => false,
            };
            if !empty {
                return Err(unsupported(field, value));
            }
        }
        let config = LoraConfig {
            rank: self.r,
            alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            dropout: self.lora_dropout,
            target_modules: modules,
        };
        let checked = config.check();
        checked.map_err(|source| PeftError::Config { file: file.to_path_buf(), source })?;
        Ok(config)
    }
}
