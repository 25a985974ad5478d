//! How a GGUF file says that its model is sampled.

use serde_json::{Map, Number, Value};

use super::{GgufFile, GgufValue};
use crate::config::{ConfigError, GenerationConfig};

/// In front of the keys. Source: llama.cpp, gguf-py/gguf/constants.py, `Keys.General.SAMPLING_*`.
const PREFIX: &str = "general.sampling.";

/// Keys, and what generation_config.json calls the same.
const SAME: [(&str, &str); 2] = [("temp", "temperature"), ("penalty_repeat", "repetition_penalty")];

/// The sampling defaults of a file; `general.sampling.*` that is not used is named as it stands there.
///
/// # Errors
/// [`ConfigError`] for a value that is not possible.
pub(super) fn generation_config(file: &GgufFile) -> Result<GenerationConfig, ConfigError> {
    let mut settings = Map::new();
    for (key, value) in file.metadata() {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let same = SAME.iter().find(|(here, _)| *here == name).map(|(_, there)| *there);
        settings.insert(same.unwrap_or(name).to_owned(), json(value));
    }
    GenerationConfig::from_settings(Value::Object(settings), file.path())
}

/// A number as JSON; a text by itself; anything else, which no setting is, as a word that is none.
fn json(value: &GgufValue) -> Value {
    let float = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
    match value {
        GgufValue::Bool(value) => Value::Bool(*value),
        GgufValue::String(text) => Value::String(text.clone()),
        GgufValue::I8(value) => Value::from(*value),
        GgufValue::I16(value) => Value::from(*value),
        GgufValue::I32(value) => Value::from(*value),
        GgufValue::I64(value) => Value::from(*value),
        // The shortest decimal that is the same float: 0.7, not 0.699999988079071.
        GgufValue::F32(value) => float(value.to_string().parse().unwrap_or(f64::from(*value))),
        other => match (other.as_u64(), other.as_f64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => float(value),
            (None, None) => Value::String("an array".to_owned()),
        },
    }
}
