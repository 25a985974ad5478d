//! `Adapted`: a checkpoint's weights with an adapter added to them while they are read.

use std::path::Path;

use lightglm_core::{WeightDtype, WeightSource};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_train::lora::{Lora, MergedWeights};

use crate::error::Error;
use crate::model::read_adapter;

/// The field of config.json that says whether the head is the table of embeddings.
pub(crate) const TIED_KEY: &str = "tie_word_embeddings";

/// An adapter, if there is one, and the configuration of the model with it.
pub(crate) struct Adapted {
    lora: Option<Lora>,
    tied: bool,
    config: GlmConfig,
}

impl Adapted {
    /// The adapter in the folder `adapter` for `checkpoint`'s model.
    ///
    /// # Errors
    /// [`Error::Peft`].
    pub(crate) fn read(checkpoint: &Checkpoint, adapter: Option<&Path>) -> Result<Self, Error> {
        let lora = adapter.map(|folder| read_adapter(checkpoint, folder)).transpose()?;
        let mut config = checkpoint.config().clone();
        let tied = config.tie_word_embeddings;
        config.tie_word_embeddings &= !lora.as_ref().is_some_and(Lora::unties);
        Ok(Self { lora, tied, config })
    }

    /// The configuration of the model with the adapter: its head is its own where the adapter makes it so.
    pub(crate) fn config(&self) -> &GlmConfig {
        &self.config
    }

    /// `base` with the adapter in it; merged tensors get the precision that `rounding` says.
    pub(crate) fn weights<'a>(
        &'a self,
        base: &'a dyn WeightSource,
        rounding: &'a dyn Fn(&str, WeightDtype) -> WeightDtype,
    ) -> AdaptedWeights<'a> {
        match &self.lora {
            None => AdaptedWeights::Base(base),
            Some(lora) => {
                let merged = MergedWeights::new(base, lora, self.tied);
                AdaptedWeights::Merged(merged.with_rounding(rounding))
            }
        }
    }
}

/// Weights, with an adapter or without.
pub(crate) enum AdaptedWeights<'a> {
    Base(&'a dyn WeightSource),
    Merged(MergedWeights<'a>),
}

impl AdaptedWeights<'_> {
    /// What a model is read from.
    pub(crate) fn source(&self) -> &dyn WeightSource {
        match self {
            Self::Base(base) => *base,
            Self::Merged(merged) => merged,
        }
    }
}

/// The matrix that the tensor `name` is the weight of.
pub(crate) fn matrix_of(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}
