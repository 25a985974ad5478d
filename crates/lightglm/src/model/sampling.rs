//! How a model answers where nobody says how.

use lightglm_generation::SamplingParams;
use lightglm_model::config::GenerationConfig;

/// What a checkpoint's generation_config.json says; where it is silent a low temperature (0.2, top-p
/// 0.9), which suits answers and small models. `do_sample` false is the likeliest token, whatever the
/// temperature, as in transformers.
pub fn recommended(config: &GenerationConfig) -> SamplingParams {
    let float = |x: Option<f64>, otherwise: f32| x.map_or(otherwise, |x| x as f32);
    let defaults = SamplingParams::default();
    let max_tokens = config.max_new_tokens.map_or(defaults.max_tokens, |most| most.max(1));
    SamplingParams {
        temperature: match config.do_sample {
            Some(false) => 0.0,
            _ => float(config.temperature, 0.2),
        },
        top_p: float(config.top_p, 0.9),
        top_k: config.top_k.map_or(0, |k| k as usize),
        min_p: float(config.min_p, 0.0),
        repetition_penalty: float(config.repetition_penalty, 1.0),
        max_tokens,
        min_tokens: config.min_new_tokens.unwrap_or(0).min(max_tokens),
        stop: config.stop_strings.clone(),
        logit_bias: config.suppress_tokens.iter().map(|&id| (id, f32::NEG_INFINITY)).collect(),
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    /// Every key that is used, away from what it is without.
    fn settings() -> Map<String, Value> {
        let settings = json!({
            "bad_words_ids": [[5], [6]], "do_sample": false, "eos_token_id": [7],
            "max_new_tokens": 99, "min_new_tokens": 3, "min_p": 0.1, "pad_token_id": 8,
            "repetition_penalty": 1.2, "stop_strings": ["END", "\u{5b8c}"], "suppress_tokens": [9],
            "temperature": 0.7, "top_k": 40, "top_p": 0.5,
        });
        settings.as_object().unwrap().clone()
    }

    fn read(settings: &Map<String, Value>) -> GenerationConfig {
        GenerationConfig::from_json(Value::Object(settings.clone()).to_string()).unwrap()
    }

    /// What was given is used: without it the sampling is another one.
    #[test]
    fn every_setting_makes_a_difference() {
        let all = settings();
        assert!(read(&all).unused.is_empty());
        let used = GenerationConfig::used_keys();
        assert!(used.iter().all(|&key| all.contains_key(key)), "a key is missing in this test");
        assert_eq!(all.len(), used.len());
        for key in all.keys() {
            let mut with = all.clone();
            if key == "temperature" {
                with["do_sample"] = true.into();
            }
            let mut without = with.clone();
            without.remove(key);
            let (with, without) = (read(&with), read(&without));
            // These two are the end of a reply's and of a batch's to use.
            let elsewhere = with.eos_token_ids != without.eos_token_ids
                || with.pad_token_id != without.pad_token_id;
            assert!(elsewhere || recommended(&with) != recommended(&without), "{key}");
            recommended(&with).validate().unwrap();
        }
        assert_eq!(recommended(&read(&all)).temperature, 0.0);
    }
}
