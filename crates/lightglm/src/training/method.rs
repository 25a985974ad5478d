//! `Method`: what of a model is trained, and towards what.

use lightglm_kernels::WeightBits;
use lightglm_model::config::GlmConfig;
use lightglm_quant::{Policy, Scheme};
use lightglm_train::lora::LoraConfig;
use lightglm_train::optimizer::ScheduleShape;
use lightglm_train::trainer::TrainConfig;

use crate::error::Error;
use crate::model::{EMBEDDING, matrices};

/// What of a model is trained, and towards what.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// Every parameter, towards the answers of the rows.
    Full,
    /// Low-rank adapters beside the projections, towards the answers of the rows.
    Lora(LoraConfig),
    /// Weights that will be quantized, with their rounding simulated, towards the model before
    /// quantization (LLM-QAT).
    Qat(QatConfig),
}

/// How a model is trained to bear its own quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct QatConfig {
    /// What the matrices become.
    pub policy: Policy,
    /// Train adapters, which are added to the weights before these are rounded, in place of all
    /// weights; by default all weights.
    pub lora: Option<LoraConfig>,
    /// Simulate an eight-bit KV cache, too.
    pub int8_kv: bool,
    /// Share of the divergence from the dense model in the loss, from 0 to 1; the rest is that of the
    /// rows' answers. 1 by default, which asks for no labels at all.
    pub kl_weight: f64,
}

impl QatConfig {
    /// All weights, towards the dense model alone.
    pub fn new(policy: Policy) -> Self {
        Self { policy, lora: None, int8_kv: false, kl_weight: 1.0 }
    }
}

impl Method {
    /// All weights trained to bear one quantization scheme: `int4wo-g128`, `w8a8`, ...
    ///
    /// # Errors
    /// [`Error::Scheme`].
    pub fn qat(scheme: &str) -> Result<Self, Error> {
        Ok(Self::Qat(QatConfig::new(Policy::uniform(scheme.parse()?))))
    }

    /// A few words: `LoRA of rank 16`.
    pub fn describe(&self) -> String {
        match self {
            Self::Full => "all parameters".to_owned(),
            Self::Lora(config) => format!("LoRA of rank {}", config.rank),
            Self::Qat(QatConfig { lora: None, .. }) => "all weights".to_owned(),
            Self::Qat(QatConfig { lora: Some(config), .. }) => {
                format!("LoRA of rank {}", config.rank)
            }
        }
    }

    /// Settings that suit the method: its learning rate (1e-3 for adapters; for all weights 3e-5, in
    /// quantization-aware training 5e-5, or 1e-5 where no weight gets fewer than eight bits), and for
    /// quantization-aware training one epoch with a rate that falls like a cosine.
    pub fn recommended(&self) -> TrainConfig {
        let defaults = TrainConfig::default();
        match self {
            Self::Full => TrainConfig { learning_rate: 3e-5, ..defaults },
            Self::Lora(_) => TrainConfig { learning_rate: 1e-3, ..defaults },
            Self::Qat(config) => {
                let eight = |(_, scheme)| keeps_eight_bits(scheme);
                let learning_rate = match config.lora {
                    Some(_) => 1e-3,
                    // There is less to win back, and less that a step may cost.
                    None if config.policy.rules().all(eight) => 1e-5,
                    None => 5e-5,
                };
                TrainConfig {
                    learning_rate,
                    epochs: 1,
                    schedule: ScheduleShape::Cosine,
                    ..defaults
                }
            }
        }
    }

    /// The adapters' configuration, where there are any.
    pub(super) fn lora(&self) -> Option<&LoraConfig> {
        match self {
            Self::Full => None,
            Self::Lora(config) => Some(config),
            Self::Qat(config) => config.lora.as_ref(),
        }
    }

    /// What can be refused without a model.
    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(lora) = self.lora() {
            lora.check()?;
        }
        if let Self::Qat(QatConfig { lora: Some(lora), .. }) = self
            && !lora.modules_to_save.is_empty()
        {
            let reason = "adapters of quantization-aware training have none".to_owned();
            return Err(Error::Option { option: "modules_to_save", reason });
        }
        if let Self::Qat(config) = self
            && !(0.0..=1.0).contains(&config.kl_weight)
        {
            let reason = format!("must be between 0 and 1, not {}", config.kl_weight);
            return Err(Error::Option { option: "kl_weight", reason });
        }
        Ok(())
    }

    /// What can be refused before weights are read.
    pub(super) fn check_for(&self, config: &GlmConfig) -> Result<(), Error> {
        let matrices = matrices(config);
        let names = || matrices.iter().map(|(name, _)| name.as_str());
        let projections = || names().filter(|name| *name != EMBEDDING);
        if let Some(lora) = self.lora() {
            let meant =
                |target: &String| projections().any(|name| LoraConfig::matches(target, name));
            if let Some(target) = lora.target_modules.iter().find(|target| !meant(target)) {
                let reason = format!("the model has no projection called {target}{}", hint(target));
                return Err(Error::Option { option: "target_modules", reason });
            }
            // PEFT's answer to which of the two then moves depends on its version.
            if let (true, [module, ..]) = (config.tie_word_embeddings, &lora.modules_to_save[..]) {
                let reason = format!("{module}: the model's head is its table of embeddings");
                return Err(Error::Option { option: "modules_to_save", reason });
            }
        }
        match self {
            Self::Qat(config) => Ok(config.policy.check_names(names())?),
            Self::Full | Self::Lora(_) => Ok(()),
        }
    }
}

/// What someone may have meant who names a projection of other models.
fn hint(target: &str) -> &'static str {
    match target {
        "gate_proj" | "up_proj" => ": the two are one here, gate_up_proj",
        "query_key_value" | "qkv_proj" => ": its parts are q_proj, k_proj and v_proj here",
        "embed_tokens" => ": adapters go beside projections, not into the table of embeddings",
        _ => "",
    }
}

/// Whether `scheme` leaves a weight eight bits or more.
fn keeps_eight_bits(scheme: Scheme) -> bool {
    match scheme {
        Scheme::Dense => true,
        Scheme::Quantized(scheme) => scheme.weight.bits == WeightBits::Eight,
    }
}
