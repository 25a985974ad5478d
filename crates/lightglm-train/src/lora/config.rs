//! `LoraConfig`.

use std::collections::BTreeSet;

use regex::Regex;

use super::{EMBEDDING, HEAD, LoraSite};

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
    /// Which projections have an adapter, as in PEFT: the last part of their name (`q_proj`), `all-linear` (every
    /// projection of a block), or a regular expression that matches the whole name (`.*\\.(q|v)_proj`).
    pub target_modules: Vec<String>,
    /// Modules that are trained or were saved whole, as in PEFT: `lm_head`, `embed_tokens`; by default none.
    pub modules_to_save: Vec<String>,
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
    /// A target is no regular expression.
    #[error("`target_modules`: `{target}` is no regular expression: {reason}")]
    Pattern {
        /// The target.
        target: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A module that cannot be trained whole.
    #[error("`modules_to_save`: `{module}` is neither `lm_head` nor `embed_tokens`")]
    Saved {
        /// Its name.
        module: String,
    },
    /// A module was to be trained whole, and to have an adapter.
    #[error(
        "`{module}` is in `modules_to_save` and among the `target_modules`: it is one or the other"
    )]
    SavedTarget {
        /// Its name.
        module: String,
    },
    /// No module is named.
    #[error("`target_modules` names no module")]
    NoTargets,
}

/// What PEFT calls every projection but the head.
const ALL_LINEAR: &str = "all-linear";

/// The regular expression that `target` is; `None` where it is the end of a name.
fn pattern(target: &str) -> Option<Result<Regex, regex::Error>> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!target.chars().all(is_name)).then(|| Regex::new(&format!("^(?:{target})$")))
}

/// Every projection of a decoder block.
const ALL_PROJECTIONS: [&str; 6] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"];

/// The decoder's name of an entry of `modules_to_save`, which is a module's name or the end of it.
pub(crate) fn saved_module(entry: &str) -> Option<&'static str> {
    match entry.rsplit('.').next()? {
        "lm_head" | "output_layer" => Some(HEAD),
        "embed_tokens" | "word_embeddings" => Some(EMBEDDING),
        _ => None,
    }
}

/// What the update of an adapter of this rank is multiplied with.
pub(crate) fn scale(alpha: f64, rank: usize, use_rslora: bool) -> f64 {
    let rank = rank as f64;
    alpha / if use_rslora { rank.sqrt() } else { rank }
}

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
            modules_to_save: Vec::new(),
        }
    }
}

impl LoraConfig {
    /// What the update is multiplied with.
    pub fn scale(&self) -> f64 {
        scale(self.alpha, self.rank, self.use_rslora)
    }

    /// Whether the projection `name` (`model.layers.0.self_attn.q_proj`) has an adapter.
    pub fn is_target(&self, name: &str) -> bool {
        self.target_modules.iter().any(|target| Self::matches(target, name))
    }

    /// Whether `target`, one of [`Self::target_modules`], means the projection `name`.
    pub fn matches(target: &str, name: &str) -> bool {
        if target == ALL_LINEAR {
            return ALL_PROJECTIONS.iter().any(|projection| Self::matches(projection, name));
        }
        if let Some(pattern) = pattern(target) {
            return pattern.is_ok_and(|pattern| pattern.is_match(name));
        }
        let rest = name.strip_suffix(target);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The targets as PEFT takes them in a list, where `all-linear` and expressions mean nothing: names, those of
    /// an expression whole, out of `sites`.
    pub(crate) fn listed_targets(&self, sites: &[LoraSite]) -> Vec<String> {
        let mut listed: Vec<String> = Vec::new();
        for target in &self.target_modules {
            let names: Vec<String> = match pattern(target) {
                _ if target == ALL_LINEAR => ALL_PROJECTIONS.map(str::to_owned).to_vec(),
                None => vec![target.clone()],
                Some(_) => {
                    let meant = sites.iter().filter(|site| Self::matches(target, &site.name));
                    meant.map(|site| site.name.clone()).collect()
                }
            };
            listed.extend(names);
        }
        let mut seen = BTreeSet::new();
        listed.retain(|name| seen.insert(name.clone()));
        listed
    }

    /// Whether the module `name` ([`HEAD`] or [`EMBEDDING`]) is trained whole.
    pub fn is_saved(&self, name: &str) -> bool {
        self.modules_to_save.iter().any(|module| saved_module(module) == Some(name))
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
        for target in &self.target_modules {
            if let Some(Err(error)) = pattern(target) {
                let (target, reason) = (target.clone(), error.to_string());
                return Err(LoraError::Pattern { target, reason });
            }
        }
        for module in &self.modules_to_save {
            if saved_module(module).is_none() {
                return Err(LoraError::Saved { module: module.clone() });
            }
        }
        let mut named = self.target_modules.iter().chain(&self.modules_to_save);
        match named.any(|name| !name.is_empty()) {
            true => Ok(()),
            false => Err(LoraError::NoTargets),
        }
    }
}
