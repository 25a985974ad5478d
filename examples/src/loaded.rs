//! `Loaded`: a model, its text side, and the caches it wants.

use std::path::Path;

use anyhow::Result;
use lightglm::sparse::SHORTEST_RUN;
use lightglm::sparse::Thresholds;
use lightglm::sparse::thresholds::{fingerprint, masked};
use lightglm_core::{KvCache, KvCacheError, PageBudget};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::Policy;
use lightglm_text::Tokenizer;

use crate::open_model;
use crate::precision::Precision;
use crate::serving::{ServedModel, quantized, serve};

/// Layers whose attention stays exact with a page budget, as in Quest.
pub const EXACT_LAYERS: usize = 2;

/// A model and its text side.
pub struct Loaded<B: LmBackend> {
    /// Its files.
    pub checkpoint: Checkpoint,
    /// The model itself.
    pub decoder: Box<dyn ServedModel<B>>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    kv_dtype: KvDtype,
    kv_budget: Option<PageBudget>,
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
        Self::new(checkpoint, decoder, kv_dtype, device)
    }

    /// As [`Self::open`], made sparse by the thresholds of a file.
    ///
    /// # Errors
    /// As [`Self::open`]; where the model is not quantized, and where the file is not one of its
    /// thresholds.
    pub fn open_sparse(
        model: Option<&str>,
        policy: Option<Policy>,
        thresholds: &Path,
        kv_dtype: KvDtype,
        device: &B::Device,
    ) -> Result<Self> {
        let checkpoint = open_model(model)?;
        let quantized = quantized::<B>(&checkpoint, policy.as_ref(), device)?;
        let thresholds = Thresholds::load(thresholds, &fingerprint(&quantized.model))?;
        let decoder = masked(quantized.model, &thresholds, SHORTEST_RUN)?;
        Self::new(checkpoint, Box::new(decoder), kv_dtype, device)
    }

    fn new(
        checkpoint: Checkpoint,
        decoder: Box<dyn ServedModel<B>>,
        kv_dtype: KvDtype,
        device: &B::Device,
    ) -> Result<Self> {
        let tokenizer = checkpoint.tokenizer()?;
        let (kv_budget, device) = (None, device.clone());
        Ok(Self { checkpoint, decoder, tokenizer, kv_dtype, kv_budget, device })
    }

    /// The same model with caches whose decode steps attend to so many positions at most, in all
    /// layers but the first [`EXACT_LAYERS`].
    pub fn with_kv_budget(self, positions: Option<usize>) -> Self {
        Self { kv_budget: positions.map(|positions| PageBudget { positions }), ..self }
    }

    /// A cache for so many sequences of so many positions.
    pub fn cache(&self, sequences: usize, positions: usize) -> ContiguousKvCache<B> {
        let shape = KvShape::of(self.checkpoint.config());
        let (dtype, device) = (self.kv_dtype, &self.device);
        let cache = ContiguousKvCache::new(shape, sequences, positions, dtype, device);
        match self.kv_budget {
            Some(budget) => cache.with_page_budget(budget, EXACT_LAYERS),
            None => cache,
        }
    }

    /// [`Self::cache`] for one sequence.
    ///
    /// # Errors
    /// None today; the signature is what evaluations ask for.
    pub fn boxed_cache(&self, positions: usize) -> Result<Box<dyn KvCache<B>>, KvCacheError> {
        Ok(Box::new(self.cache(1, positions)))
    }
}
