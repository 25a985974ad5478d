//! `adapter_config.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::PeftError;
use crate::lora::LoraConfig;

/// Fields that change the arithmetic, or what the file's tensors mean: refused where they are set.
///
/// Source: PEFT 0.21, `LoraConfig`.
const REFUSED: [&str; 15] = [
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "fan_in_fan_out",
];

/// Values of `init_lora_weights` that leave the base as it was. Others (PiSSA, OLoRA, CorDA, LoftQ)
/// take something out of it, and the adapter is one to what remained.
const INITIALIZATIONS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// The fields that matter here; PEFT fills in the others.
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
    inference_mode: bool,
    #[serde(flatten)]
    others: Map<String, Value>,
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
            inference_mode: true,
            others: Map::from_iter([("fan_in_fan_out".to_owned(), Value::Bool(false))]),
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
        for field in REFUSED {
            if let Some(value) = self.others.get(field).filter(|value| is_set(value)) {
                return Err(unsupported(field, value));
            }
        }
        if let Some(value @ Value::String(name)) = self.others.get("init_lora_weights")
            && !INITIALIZATIONS.contains(&name.as_str())
        {
            return Err(unsupported("init_lora_weights", value));
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

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}
