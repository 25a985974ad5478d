//! `TrainConfig`.

use lightglm_core::Activations;

use crate::optimizer::{AdamWConfig, ScheduleShape};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Examples of one step.
    pub batch_size: usize,
    /// Times that each example is seen.
    pub epochs: usize,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub schedule: ScheduleShape,
    /// Share of all steps in which it rises.
    pub warmup_ratio: f64,
    /// AdamW's numbers.
    pub optimizer: AdamWConfig,
    /// The gradients' global norm at most; `None` for no clipping.
    pub max_grad_norm: Option<f64>,
    /// Tokens of a forward pass at most. A step whose examples have more is cut into several passes,
    /// whose gradients add up to those of one.
    pub micro_batch_tokens: usize,
    /// What is kept of a forward pass.
    pub activations: Activations,
    /// Decides the order of examples and the dropout masks.
    pub seed: u64,
    /// Steps between validations; `None`: at the end of each epoch.
    pub evaluate_every: Option<u64>,
    /// Validations without improvement after which training stops; `None`: never. The best trainable
    /// parameters are kept meanwhile: in the checkpoints' folder, or in memory where there is none.
    pub patience: Option<usize>,
    /// Steps between checkpoints; `None`: at the end of each epoch.
    pub checkpoint_every: Option<u64>,
}

impl Default for TrainConfig {
    /// Batches of 8, three epochs, a learning rate of 3e-5 that falls in a line after 3 % of warm-up.
    fn default() -> Self {
        Self {
            batch_size: 8,
            epochs: 3,
            learning_rate: 3e-5,
            schedule: ScheduleShape::Linear,
            warmup_ratio: 0.03,
            optimizer: AdamWConfig::default(),
            max_grad_norm: Some(1.0),
            micro_batch_tokens: 2048,
            activations: Activations::Keep,
            seed: 0,
            evaluate_every: None,
            patience: None,
            checkpoint_every: None,
        }
    }
}

/// A training configuration that is impossible.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}` must be {wanted}, not {found}")]
pub struct TrainConfigError {
    /// The field of [`TrainConfig`].
    pub field: &'static str,
    /// What it may be.
    pub wanted: &'static str,
    /// What it is.
    pub found: String,
}

impl TrainConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TrainConfigError`].
    pub fn check(&self) -> Result<(), TrainConfigError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |x: f64| (0.0..1.0).contains(&x);
        let optimizer = &self.optimizer;
        let muon = optimizer.muon.unwrap_or_default();
        let norm = self.max_grad_norm.unwrap_or(1.0);
        let decay_is_fine = optimizer.weight_decay.is_finite() && optimizer.weight_decay >= 0.0;
        let at_least_one = "at least 1";
        let counts = [
            ("batch_size", self.batch_size as u64),
            ("epochs", self.epochs as u64),
            ("micro_batch_tokens", self.micro_batch_tokens as u64),
            ("evaluate_every", self.evaluate_every.unwrap_or(1)),
            ("checkpoint_every", self.checkpoint_every.unwrap_or(1)),
            ("patience", self.patience.unwrap_or(1) as u64),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(TrainConfigError { field, wanted: at_least_one, found: "0".into() });
        }
        let numbers = [
            ("learning_rate", self.learning_rate, positive(self.learning_rate), "positive"),
            ("warmup_ratio", self.warmup_ratio, share(self.warmup_ratio), "in [0, 1)"),
            ("max_grad_norm", norm, positive(norm), "positive"),
            ("beta1", optimizer.beta1, share(optimizer.beta1), "in [0, 1)"),
            ("beta2", optimizer.beta2, share(optimizer.beta2), "in [0, 1)"),
            ("eps", optimizer.eps, positive(optimizer.eps), "positive"),
            ("weight_decay", optimizer.weight_decay, decay_is_fine, "at least 0"),
            ("muon.momentum", muon.momentum, share(muon.momentum), "in [0, 1)"),
            ("muon.scale", muon.scale, positive(muon.scale), "positive"),
        ];
        match numbers.into_iter().find(|(_, _, fine, _)| !fine) {
            Some((field, found, _, wanted)) => {
                Err(TrainConfigError { field, wanted, found: found.to_string() })
            }
            None => Ok(()),
        }
    }
}
