//! Rotary position embedding: its parameters and inverse frequencies.
//!
//! Source: transformers 5.23.0, `modeling_rope_utils.py` (`_compute_linear_scaling_rope_parameters`,
//! `_compute_yarn_parameters`, `_compute_llama3_parameters`, `convert_rope_params_to_dict`); YaRN: Peng et al. 2023,
//! arXiv:2309.00071.

use std::f64::consts::PI;
use std::fmt;

use serde_json::{Map, Value, json};

use super::ConfigError;
use super::fields::Fields;
use super::glm_config::MAX_POSITIONS;

/// How positions become angles.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeParameters {
    /// The base of the geometric series of wavelengths.
    pub rope_theta: f64,
    /// The share of each head, from its first element on, that is rotated.
    pub partial_rotary_factor: f64,
    /// How the frequencies are stretched for contexts longer than those of the training.
    pub scaling: RopeScaling,
    /// How many of the frequencies, from the highest on, turn by time, by height and by width (M-RoPE); `None` for a
    /// model whose positions have one axis.
    pub mrope_section: Option<[usize; 3]>,
}

/// What this project calls the scaling of a GGUF file's `rope_freqs.weight` in a config.json.
const DIVISORS: &str = "lightglm_divisors";

/// A way to stretch the frequencies.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained (`rope_type` `default`).
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// How many times longer the context becomes, at least 1.
        factor: f64,
    },
    /// Low frequencies interpolated, high ones kept, a ramp between them.
    Yarn {
        /// How many times longer the context becomes, at least 1.
        factor: f64,
        /// The context length of the training, in tokens.
        original_max_position_embeddings: usize,
        /// Rotations over the original context above which a frequency is kept.
        beta_fast: f64,
        /// Rotations over the original context below which a frequency is divided by `factor`.
        beta_slow: f64,
        /// Multiplies cos and sin; where absent it follows from `factor`, `mscale` and
        /// `mscale_all_dim`.
        attention_factor: Option<f64>,
        /// Numerator's weight in the inferred attention factor.
        mscale: Option<f64>,
        /// Denominator's weight in the inferred attention factor.
        mscale_all_dim: Option<f64>,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
    /// Llama 3.1's: wavelengths longer than the original context over `low_freq_factor` are stretched, those
    /// shorter than it over `high_freq_factor` kept, those between blended.
    Llama3 {
        /// How many times longer the context becomes, at least 1.
        factor: f64,
        /// The context length of the training, in tokens.
        original_max_position_embeddings: usize,
        /// Rotations over the original context below which a frequency is divided by `factor`.
        low_freq_factor: f64,
        /// Rotations over the original context above which a frequency is kept.
        high_freq_factor: f64,
    },
    /// Each frequency divided by a number of its own: a GGUF file's `rope_freqs.weight`, in which converters
    /// put Llama 3.1's scaling. `config.json` has no such type.
    Divisors(Vec<f32>),
}

impl RopeParameters {
    /// The `rotary_dim / 2` inverse frequencies, and the factor that cos and sin are multiplied by.
    ///
    /// ```text
    /// default: f_i = theta^(-2i / rotary_dim)
    /// linear:  f_i / factor
    /// yarn:    f_i r_i + f_i / factor (1 - r_i),   r the ramp between beta_fast and beta_slow
    /// llama3:  f_i, f_i / factor, or between wavelengths of original / high and original / low_freq_factor
    ///          f_i s + f_i / factor (1 - s),   s = (original f_i / 2 pi - low) / (high - low)
    /// divisors: f_i / divisors_i
    /// ```
    /// `rotary_dim` is even: `GlmConfig::rotary_dim`.
    pub fn inv_freq(&self, rotary_dim: usize) -> (Vec<f32>, f32) {
        // The exponent is rounded to f32 and the power rounded to f32, as torch does it.
        let powers = (0..rotary_dim / 2).map(|i| {
            let exponent = (2 * i) as f32 / rotary_dim as f32;
            self.rope_theta.powf(f64::from(exponent)) as f32
        });
        match &self.scaling {
            RopeScaling::None => (powers.map(|power| 1.0 / power).collect(), 1.0),
            RopeScaling::Linear { factor } => {
                (powers.map(|power| 1.0 / power / *factor as f32).collect(), 1.0)
            }
            RopeScaling::Yarn { factor, .. } => {
                let (low, high) = self.yarn_correction_range(rotary_dim);
                let blend = |(i, power): (usize, f32)| {
                    let ramp = (i as f32 - low as f32) / (high - low) as f32;
                    let kept = 1.0 - ramp.clamp(0.0, 1.0);
                    1.0 / (*factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
                };
                (powers.enumerate().map(blend).collect(), self.attention_scaling())
            }
            RopeScaling::Llama3 {
                factor,
                original_max_position_embeddings: original,
                low_freq_factor: low,
                high_freq_factor: high,
            } => {
                let (factor, original) = (*factor as f32, *original as f32);
                let scaled = |power: f32| {
                    let frequency = 1.0 / power;
                    let wavelength = 2.0 * std::f32::consts::PI / frequency;
                    if wavelength > original / *low as f32 {
                        frequency / factor
                    } else if wavelength < original / *high as f32 {
                        frequency
                    } else {
                        let smooth = (original / wavelength - *low as f32) / (high - low) as f32;
                        (1.0 - smooth) * (frequency / factor) + smooth * frequency
                    }
                };
                (powers.map(scaled).collect(), 1.0)
            }
            RopeScaling::Divisors(divisors) => {
                (powers.zip(divisors).map(|(power, divisor)| 1.0 / power / divisor).collect(), 1.0)
            }
        }
    }

    /// Positions that the model was made for, of a configuration that names `max_positions`: a stretch counts
    /// from the length of the training where that is told, from `max_positions` otherwise, as vLLM reads
    /// it; never less than `max_positions`.
    pub(super) fn context_length(&self, max_positions: usize) -> usize {
        let (original, factor) = match &self.scaling {
            // Here `max_positions` is the stretched length.
            RopeScaling::None | RopeScaling::Divisors(_) | RopeScaling::Llama3 { .. } => {
                return max_positions;
            }
            RopeScaling::Linear { factor } => (max_positions, *factor),
            RopeScaling::Yarn { factor, original_max_position_embeddings: original, .. } => {
                (*original, *factor)
            }
        };
        let stretched = (original as f64 * factor).floor();
        max_positions.max(stretched.min(MAX_POSITIONS as f64) as usize)
    }

    /// The dimensions between which YaRN's ramp falls, `low < high`.
    fn yarn_correction_range(&self, rotary_dim: usize) -> (f64, f64) {
        let RopeScaling::Yarn {
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } = &self.scaling
        else {
            return (0.0, 1.0);
        };
        let dim = rotary_dim as f64;
        let correction_dim = |rotations: f64| {
            dim * (*original_max_position_embeddings as f64 / (rotations * 2.0 * PI)).ln()
                / (2.0 * self.rope_theta.ln())
        };
        let (mut low, mut high) = (correction_dim(*beta_fast), correction_dim(*beta_slow));
        if *truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(dim - 1.0));
        // The reference's guard against a ramp without width.
        if low == high { (low, high + 0.001) } else { (low, high) }
    }

    /// What cos and sin are multiplied by.
    fn attention_scaling(&self) -> f32 {
        let RopeScaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } =
            &self.scaling
        else {
            return 1.0;
        };
        let get_mscale = |mscale: f64| {
            if *factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
        };
        let inferred = || match (mscale, mscale_all_dim) {
            (Some(mscale), Some(all_dim)) => get_mscale(*mscale) / get_mscale(*all_dim),
            _ => get_mscale(1.0),
        };
        attention_factor.unwrap_or_else(inferred) as f32
    }

    /// Reads both layouts: `rope_parameters` (2026) and `rope_theta`, `partial_rotary_factor`,
    /// `rope_scaling` at the top level (2025). A non-empty `rope_scaling` wins over
    /// `rope_parameters`, and a key inside of either over one at the top level, as in transformers.
    /// `partial` is the family's share of a head that is rotated where the file names none.
    pub(super) fn parse(
        root: Fields<'_>,
        max_positions: usize,
        partial: f64,
    ) -> Result<Self, ConfigError> {
        let given = |key| Ok(root.object(key)?.filter(|fields| !fields.is_empty()));
        let inner = match given("rope_scaling")? {
            Some(fields) => Some(fields),
            None => given("rope_parameters")?,
        };
        let number = |key: &str, default: f64| -> Result<(f64, String), ConfigError> {
            if let Some(inner) = inner
                && let Some(value) = inner.number(key)?
            {
                return Ok((value, inner.path(key)));
            }
            Ok((root.number(key)?.unwrap_or(default), root.path(key)))
        };
        let (rope_theta, theta_key) = number("rope_theta", 10_000.0)?;
        if rope_theta <= 1.0 || rope_theta > f64::from(f32::MAX) {
            let reason = "must be above 1 and fit into f32";
            return Err(ConfigError::impossible(root.file(), theta_key, rope_theta, reason));
        }
        let (partial_rotary_factor, partial_key) = number("partial_rotary_factor", partial)?;
        if !(partial_rotary_factor > 0.0 && partial_rotary_factor <= 1.0) {
            let reason = "must be above 0 and at most 1";
            let (file, value) = (root.file(), partial_rotary_factor);
            return Err(ConfigError::impossible(file, partial_key, value, reason));
        }
        let scaling = match inner {
            Some(inner) => RopeScaling::parse(root, inner, max_positions)?,
            None => RopeScaling::None,
        };
        let mrope_section = inner.map(parse_mrope_section).transpose()?.flatten();
        Ok(Self { rope_theta, partial_rotary_factor, scaling, mrope_section })
    }

    /// The v5 layout's `rope_parameters` object.
    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("partial_rotary_factor".into(), json!(self.partial_rotary_factor));
        map.insert("rope_theta".into(), json!(self.rope_theta));
        if let Some(section) = self.mrope_section {
            map.insert("mrope_section".into(), json!(section));
        }
        match &self.scaling {
            RopeScaling::None => {
                map.insert("rope_type".into(), json!("default"));
            }
            RopeScaling::Linear { factor } => {
                map.insert("rope_type".into(), json!("linear"));
                map.insert("factor".into(), json!(factor));
            }
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
                mscale,
                mscale_all_dim,
                truncate,
            } => {
                map.insert("rope_type".into(), json!("yarn"));
                map.insert("factor".into(), json!(factor));
                map.insert(
                    "original_max_position_embeddings".into(),
                    json!(original_max_position_embeddings),
                );
                map.insert("beta_fast".into(), json!(beta_fast));
                map.insert("beta_slow".into(), json!(beta_slow));
                let optional = [
                    ("attention_factor", attention_factor),
                    ("mscale", mscale),
                    ("mscale_all_dim", mscale_all_dim),
                ];
                for (key, value) in optional {
                    if let Some(value) = value {
                        map.insert(key.into(), json!(value));
                    }
                }
                map.insert("truncate".into(), json!(truncate));
            }
            RopeScaling::Llama3 {
                factor,
                original_max_position_embeddings: original,
                low_freq_factor,
                high_freq_factor,
            } => {
                map.insert("rope_type".into(), json!("llama3"));
                map.insert("factor".into(), json!(factor));
                map.insert("original_max_position_embeddings".into(), json!(original));
                map.insert("low_freq_factor".into(), json!(low_freq_factor));
                map.insert("high_freq_factor".into(), json!(high_freq_factor));
            }
            RopeScaling::Divisors(divisors) => {
                map.insert("rope_type".into(), json!(DIVISORS));
                map.insert("divisors".into(), json!(divisors));
            }
        }
        Value::Object(map)
    }
}

impl fmt::Display for RopeScaling {
    /// `default`, `linear x2`, `yarn x4 over 32768`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("default"),
            Self::Linear { factor } => write!(f, "linear x{factor}"),
            Self::Yarn { factor, original_max_position_embeddings, .. } => {
                write!(f, "yarn x{factor} over {original_max_position_embeddings}")
            }
            Self::Llama3 { factor, original_max_position_embeddings, .. } => {
                write!(f, "llama3 x{factor} over {original_max_position_embeddings}")
            }
            Self::Divisors(_) => f.write_str("a divisor for each frequency"),
        }
    }
}

impl RopeScaling {
    fn parse(
        root: Fields<'_>,
        inner: Fields<'_>,
        max_positions: usize,
    ) -> Result<Self, ConfigError> {
        let (key, rope_type) = match inner.string("rope_type")? {
            Some(rope_type) => ("rope_type", rope_type),
            None => ("type", inner.string("type")?.unwrap_or("default")),
        };
        match rope_type {
            "default" => Ok(Self::None),
            "linear" => match inner.number("factor")? {
                Some(factor) => Ok(Self::Linear { factor: check_factor(inner, factor)? }),
                None => Err(ConfigError::Missing {
                    file: inner.file().into(),
                    key: inner.path("factor"),
                }),
            },
            "yarn" => Self::parse_yarn(root, inner, max_positions),
            "llama3" => Self::parse_llama3(inner),
            DIVISORS => Self::parse_divisors(inner),
            other => Err(ConfigError::Unsupported {
                file: inner.file().into(),
                key: inner.path(key),
                value: other.into(),
                supported: "default, linear, yarn, llama3",
            }),
        }
    }

    fn parse_llama3(inner: Fields<'_>) -> Result<Self, ConfigError> {
        let number = |key: &str| {
            let missing =
                || ConfigError::Missing { file: inner.file().into(), key: inner.path(key) };
            match inner.number(key)?.ok_or_else(missing)? {
                value if value > 0.0 => Ok(value),
                value => {
                    let (file, reason) = (inner.file(), "must be positive");
                    Err(ConfigError::impossible(file, inner.path(key), value, reason))
                }
            }
        };
        let key = "original_max_position_embeddings";
        let original = number(key)? as usize;
        let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
        if low >= high {
            let reason = format!("must be above low_freq_factor, {low}");
            let (file, key) = (inner.file(), inner.path("high_freq_factor"));
            return Err(ConfigError::impossible(file, key, high, reason));
        }
        Ok(Self::Llama3 {
            factor: check_factor(inner, number("factor")?)?,
            original_max_position_embeddings: original.max(1),
            low_freq_factor: low,
            high_freq_factor: high,
        })
    }

    /// What [`RopeParameters::to_json`] writes of a GGUF file's divisors.
    fn parse_divisors(inner: Fields<'_>) -> Result<Self, ConfigError> {
        let given = inner.value("divisors").and_then(Value::as_array);
        let divisor = |value: &Value| value.as_f64().map(|value| value as f32);
        let divisors = given.and_then(|given| given.iter().map(divisor).collect());
        let bad = || {
            let (file, key) = (inner.file(), inner.path("divisors"));
            ConfigError::impossible(file, key, "not", "must be an array of positive numbers")
        };
        let divisors: Vec<f32> = divisors.ok_or_else(bad)?;
        match divisors.iter().all(|divisor| divisor.is_finite() && *divisor > 0.0) {
            true => Ok(Self::Divisors(divisors)),
            false => Err(bad()),
        }
    }

    fn parse_yarn(
        root: Fields<'_>,
        inner: Fields<'_>,
        max_positions: usize,
    ) -> Result<Self, ConfigError> {
        let key = "original_max_position_embeddings";
        // Models that keep the value beside max_position_embeddings mean that one.
        let holder = if root.value(key).is_some() { root } else { inner };
        let original = holder.size(key, max_positions)?;
        if original == 0 {
            let reason = "must be positive";
            return Err(ConfigError::impossible(inner.file(), holder.path(key), original, reason));
        }
        let factor = match inner.number("factor")? {
            Some(factor) => factor,
            None => max_positions as f64 / original as f64,
        };
        let positive = |key: &str| -> Result<Option<f64>, ConfigError> {
            match inner.number(key)? {
                Some(value) if value < 0.0 => {
                    let (file, reason) = (inner.file(), "must not be negative");
                    Err(ConfigError::impossible(file, inner.path(key), value, reason))
                }
                value => Ok(value),
            }
        };
        // Zero counts as absent for all of these but attention_factor (Python's `or`).
        let beta = |key: &str, default: f64| -> Result<f64, ConfigError> {
            Ok(positive(key)?.filter(|value| *value != 0.0).unwrap_or(default))
        };
        let (beta_fast, beta_slow) = (beta("beta_fast", 32.0)?, beta("beta_slow", 1.0)?);
        if beta_fast < beta_slow {
            let reason = format!("must not be below beta_slow, {beta_slow}");
            let (file, key) = (inner.file(), inner.path("beta_fast"));
            return Err(ConfigError::impossible(file, key, beta_fast, reason));
        }
        Ok(Self::Yarn {
            factor: check_factor(inner, factor)?,
            original_max_position_embeddings: original,
            beta_fast,
            beta_slow,
            attention_factor: positive("attention_factor")?,
            mscale: positive("mscale")?.filter(|value| *value != 0.0),
            mscale_all_dim: positive("mscale_all_dim")?.filter(|value| *value != 0.0),
            truncate: inner.boolean("truncate")?.unwrap_or(true),
        })
    }
}

/// Three counts; whether they add up is checked with the head's size.
fn parse_mrope_section(inner: Fields<'_>) -> Result<Option<[usize; 3]>, ConfigError> {
    const KEY: &str = "mrope_section";
    let Some(value) = inner.value(KEY) else { return Ok(None) };
    let counts = value.as_array().map(|counts| counts.iter().map(Value::as_u64).collect());
    let counts: Option<Vec<u64>> = counts.flatten();
    let small = |&count: &u64| usize::try_from(count).ok().filter(|&count| count < 1 << 20);
    let counts = counts.and_then(|counts| counts.iter().map(small).collect::<Option<Vec<_>>>());
    match counts.and_then(|counts| <[usize; 3]>::try_from(counts).ok()) {
        Some(section) => Ok(Some(section)),
        None => Err(inner.wrong_type(KEY, "three counts of frequencies", value)),
    }
}

fn check_factor(inner: Fields<'_>, factor: f64) -> Result<f64, ConfigError> {
    if factor >= 1.0 && factor <= f64::from(f32::MAX) {
        return Ok(factor);
    }
    let reason = "must be at least 1 and fit into f32";
    Err(ConfigError::impossible(inner.file(), inner.path("factor"), factor, reason))
}
