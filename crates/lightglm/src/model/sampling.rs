//! How a model answers where nobody says how.

use lightglm_generation::SamplingParams;
use lightglm_model::config::GenerationConfig;

/// What a checkpoint's generation_config.json says; where it is silent a low temperature (0.2, top-p
/// 0.9), which suits answers and small models.
pub fn recommended(config: &GenerationConfig) -> SamplingParams {
    let float = |x: Option<f64>, otherwise: f32| x.map_or(otherwise, |x| x as f32);
    SamplingParams {
        temperature: float(config.temperature, 0.2),
        top_p: float(config.top_p, 0.9),
        top_k: config.top_k.map_or(0, |k| k as usize),
        min_p: float(config.min_p, 0.0),
        repetition_penalty: float(config.repetition_penalty, 1.0),
        ..SamplingParams::default()
    }
}
