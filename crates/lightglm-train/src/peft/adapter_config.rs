//! `adapter_config.json`.

use std::path::Path;

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::error::PeftError;
use crate::lora::{LoraConfig, scale};

/// Fields that change the arithmetic, or what the file's tensors mean: refused where they are set.
///
/// Source: PEFT 0.21, `LoraConfig`.
const REFUSED: [&str; 11] = [
    "use_dora",
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
];

/// Values of `init_lora_weights` that leave the base as it was. Others (PiSSA, OLoRA, CorDA, LoftQ)
/// take something out of it, and the adapter is one to what remained.
const INITIALIZATIONS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// Fields that say where an adapter comes from, or how it was begun: the file's matrices are what counts.
const HARMLESS: [&str; 17] = [
    "auto_mapping",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "ephemeral_gpu_offload",
    "fan_in_fan_out",
];

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
    /// In the file's order: the first pattern that matches counts.
    #[serde(default, deserialize_with = "or_default")]
    rank_pattern: Map<String, Value>,
    #[serde(default, deserialize_with = "or_default")]
    alpha_pattern: Map<String, Value>,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    modules_to_save: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_false")]
    ensure_weight_tying: bool,
    #[serde(flatten)]
    others: Map<String, Value>,
}

fn none() -> String {
    "none".into()
}

fn is_false(value: &bool) -> bool {
    !value
}

/// `null` is as good as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
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
            rank_pattern: Map::new(),
            alpha_pattern: Map::new(),
            bias: none(),
            inference_mode: true,
            modules_to_save: config.modules_to_save.clone(),
            ensure_weight_tying: false,
            others: Map::from_iter([("fan_in_fan_out".to_owned(), Value::Bool(false))]),
        }
    }

    /// Reads the configuration and refuses, by its name, what is not built here.
    pub(super) fn parse(file: &Path, text: &[u8]) -> Result<Self, PeftError> {
        // Other kinds of adapters have other fields: their own name says more than a missing rank.
        #[derive(Deserialize)]
        struct Kind {
            #[serde(default)]
            peft_type: Value,
        }
        if let Ok(Kind { peft_type: Value::String(kind) }) = serde_json::from_slice(text)
            && !kind.eq_ignore_ascii_case("lora")
        {
            return Err(unsupported(file, "peft_type", &kind));
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let config: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| PeftError::malformed(file, error))?;
        if config.bias != "none" {
            return Err(unsupported(file, "bias", &config.bias));
        }
        for (field, value) in &config.others {
            let is_structure = matches!(value, Value::Bool(_) | Value::Array(_) | Value::Object(_));
            let unknown = is_structure && !HARMLESS.contains(&field.as_str());
            if is_set(value) && (unknown || REFUSED.contains(&field.as_str())) {
                return Err(unsupported(file, field, value));
            }
        }
        if config.others.get("fan_in_fan_out").is_some_and(is_set) {
            return Err(unsupported(file, "fan_in_fan_out", &true));
        }
        if let Some(value @ Value::String(name)) = config.others.get("init_lora_weights")
            && !INITIALIZATIONS.contains(&name.as_str())
        {
            return Err(unsupported(file, "init_lora_weights", value));
        }
        Ok(config)
    }

    /// The modules whose whole weights the file has to hold.
    pub(super) fn modules_to_save(&self) -> &[String] {
        &self.modules_to_save
    }

    /// Whether a head and a table that are one stay one.
    pub(super) fn ensures_weight_tying(&self) -> bool {
        self.ensure_weight_tying
    }

    /// That `field` of `file` is `value`, which is not supported.
    pub(super) fn refused(&self, file: &Path, field: &str, value: &str) -> PeftError {
        unsupported(file, field, &value)
    }

    /// As a configuration of this crate, whose targets are `modules`, beside `saved` ones.
    pub(super) fn lora(
        &self,
        file: &Path,
        modules: Vec<String>,
        saved: Vec<String>,
    ) -> Result<LoraConfig, PeftError> {
        let config = LoraConfig {
            rank: self.r,
            alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            dropout: self.lora_dropout,
            target_modules: modules,
            modules_to_save: saved,
        };
        let checked = config.check();
        checked.map_err(|source| PeftError::Config { file: file.to_path_buf(), source })?;
        Ok(config)
    }

    /// The rank and the scale of the projection `name`, whose patterns are those that match the end of it.
    ///
    /// Source: PEFT 0.21, `get_pattern_key`.
    pub(super) fn of_module(&self, file: &Path, name: &str) -> Result<(usize, f64), PeftError> {
        let rank = match of_pattern(file, "rank_pattern", &self.rank_pattern, name)? {
            None => self.r,
            Some(given) => match given.as_u64().and_then(|rank| usize::try_from(rank).ok()) {
                Some(rank) if rank > 0 => rank,
                _ => return Err(unsupported(file, "rank_pattern", given)),
            },
        };
        let alpha = match of_pattern(file, "alpha_pattern", &self.alpha_pattern, name)? {
            None => self.lora_alpha,
            Some(given) => match given.as_f64() {
                Some(alpha) if alpha.is_finite() && alpha > 0.0 => alpha,
                _ => return Err(unsupported(file, "alpha_pattern", given)),
            },
        };
        Ok((rank, scale(alpha, rank, self.use_rslora)))
    }
}

fn unsupported(file: &Path, field: &str, value: &dyn ToString) -> PeftError {
    let (file, field) = (file.to_path_buf(), field.to_owned());
    PeftError::Unsupported { file, field, value: value.to_string() }
}

/// What the first pattern gives that matches `name`, or its end from a dot on.
fn of_pattern<'p>(
    file: &Path,
    field: &str,
    patterns: &'p Map<String, Value>,
    name: &str,
) -> Result<Option<&'p Value>, PeftError> {
    for (pattern, value) in patterns {
        let regex = Regex::new(&format!("^(.*\\.)?({pattern})$"));
        if regex.map_err(|error| unsupported(file, field, &error))?.is_match(name) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}
