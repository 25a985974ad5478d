//! `Loaded`: a model, its text side, and the caches it wants.

use anyhow::Result;
use lightglm_core::{KvCache, KvCacheError};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::generation::{ContiguousKvCache, KvDtype};
use lightglm_model::text::Tokenizer;
use lightglm_quant::Policy;

use crate::open_model;
use crate::precision::Precision;
use crate::serving::{ServedModel, serve};

/// A model and its text side.
pub struct Loaded<B: LmBackend> {
    /// Its files.
    pub checkpoint: Checkpoint,
    /// The model itself.
    pub decoder: Box<dyn ServedModel<B>>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    kv_dtype: KvDtype,
    /// Where it is.
    pub device: B::Device,
}

impl<B: LmBackend> Loaded<B> {
    /// Opens `model` (the default one where there is none), quantized as `policy` says.
    ///
    /// # Errors
    /// As [`open_model`] and [`serve`].
    pub fn open(
        model: Option<&str>,
        policy: Option<Policy>,
        dtype: Option<Precision>,
        kv_dtype: KvDtype,
        device: &B::Device,
    ) -> Result<Self> {
        let checkpoint = open_model(model)?;
        let decoder = serve::<B>(&checkpoint, policy.as_ref(), dtype, device)?.model;
        let tokenizer = checkpoint.tokenizer()?;
        Ok(Self { checkpoint, decoder, tokenizer, kv_dtype, device: device.clone() })
    }

    /// A cache for so many sequences of so many positions.
    pub fn cache(&self, sequences: usize, positions: usize) -> ContiguousKvCache<B> {
        let config: &GlmConfig = self.checkpoint.config();
        ContiguousKvCache::new(
            config.num_hidden_layers,
            config.num_key_value_heads,
            config.head_dim,
            sequences,
            positions,
            self.kv_dtype,
            &self.device,
        )
    }

    /// [`Self::cache`] for one sequence.
    ///
    /// # Errors
    /// None today; the signature is what evaluations ask for.
    pub fn boxed_cache(&self, positions: usize) -> Result<Box<dyn KvCache<B>>, KvCacheError> {
        Ok(Box::new(self.cache(1, positions)))
    }
}
