//! `LoraConfig`.

/// How adapters are made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank of the update (`r`).
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Scales by `alpha / sqrt(rank)` instead (rsLoRA, Kalajdzievski 2023).
    pub use_rslora: bool,
    /// Share of the adapter's inputs that are zero in training.
    pub dropout: f64,
    /// Which projections have an adapter: the last part of their name (`q_proj`), as in PEFT.
    pub target_modules: Vec<String>,
}

/// A LoRA configuration that is impossible.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// The rank is 0.
    #[error("`rank` must be at least 1")]
    Rank,
    /// `alpha` is not a positive number.
    #[error("`alpha` must be a positive number, not {0}")]
    Alpha(f64),
    /// The dropout is not a share below 1.
    #[error("`dropout` must be at least 0 and below 1, not {0}")]
    Dropout(f64),
    /// No module is named.
    #[error("`target_modules` names no module")]
    NoTargets,
}

/// Every projection of a decoder block.
const ALL_PROJECTIONS: [&str; 6] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"];

impl Default for LoraConfig {
    /// Rank 16, `alpha` 32, no dropout, on all six projections of a block.
    ///
    /// Source for "all projections": Dettmers et al. 2023, "QLoRA", section 4.
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            use_rslora: false,
            dropout: 0.0,
            target_modules: ALL_PROJECTIONS.map(str::to_owned).to_vec(),
        }
    }
}

impl LoraConfig {
    /// What the update is multiplied with.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Whether the projection `name` (`model.layers.0.self_attn.q_proj`) has an adapter.
    pub fn is_target(&self, name: &str) -> bool {
        self.target_modules.iter().any(|target| {
            let rest = name.strip_suffix(target.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`LoraError`].
    pub fn check(&self) -> Result<(), LoraError> {
        if self.rank == 0 {
            return Err(LoraError::Rank);
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(LoraError::Alpha(self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(LoraError::Dropout(self.dropout));
        }
        match self.target_modules.iter().any(|target| !target.is_empty()) {
            true => Ok(()),
            false => Err(LoraError::NoTargets),
        }
    }
}
