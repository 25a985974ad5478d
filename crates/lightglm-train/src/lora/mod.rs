//! LoRA: low-rank adapters beside frozen projections.

mod config;
mod dropout;
mod elements;
mod embedding;
mod linear;
mod low_rank;
mod merged_weights;
mod random;

pub use config::{LoraConfig, LoraError};
pub(crate) use config::{saved_module, scale};
pub use dropout::DropoutSeed;
pub(crate) use elements::to_f32;
pub use embedding::LoraEmbedding;
pub use linear::{LoraAdapter, LoraLinear};
pub use low_rank::LowRank;
pub use merged_weights::MergedWeights;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Param, ParamId};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use lightglm_core::{EffectiveWeight, Embedding, Linear, MasterWeight, TensorView};

/// Puts adapters of one configuration beside projections.
///
/// ```
/// use lightglm_core::Linear;
/// use lightglm_kernels::LmBackend;
/// use lightglm_train::lora::{Lora, LoraConfig, LoraError, LoraLinear};
///
/// /// What `Glm::map_linears` of lightglm-model calls for each projection, after `no_grad`.
/// fn wrap<B: LmBackend, L: Linear<B>>(name: &str, linear: L, lora: &Lora) -> LoraLinear<B, L> {
///     lora.wrap(name, linear)
/// }
///
/// let lora = Lora::new("default", LoraConfig { rank: 8, ..LoraConfig::default() }, 0)?;
/// assert!(lora.config().is_target("model.layers.0.self_attn.q_proj"));
/// assert!(!lora.config().is_target("lm_head"));
/// # Ok::<(), LoraError>(())
/// ```
///
/// Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
#[derive(Clone, Debug)]
pub struct Lora {
    name: String,
    config: LoraConfig,
    seed: u64,
    dropout: DropoutSeed,
    /// Matrices to begin with, by projection; `None`: random ones.
    matrices: Option<Arc<BTreeMap<String, LowRank>>>,
    /// Whole weights, by module.
    saved: Arc<BTreeMap<String, TensorView>>,
    /// Where adapters have been put. Shared by clones.
    sites: Arc<Mutex<Vec<LoraSite>>>,
    /// Where whole weights have been put.
    saved_sites: Arc<Mutex<Vec<SavedSite>>>,
}

/// A projection that has an adapter.
#[derive(Clone, Debug)]
pub struct LoraSite {
    /// The projection's name: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// The parameter `A`.
    pub lora_a: ParamId,
    /// The parameter `B`.
    pub lora_b: ParamId,
}

/// A weight that is trained or replaced whole.
#[derive(Clone, Debug)]
pub struct SavedSite {
    /// The module's name: `lm_head`, `model.embed_tokens`.
    pub name: String,
    /// Its parameter.
    pub weight: ParamId,
}

/// The table of embeddings, as the decoder calls it.
pub const EMBEDDING: &str = "model.embed_tokens";

/// The head, as the decoder calls it.
pub const HEAD: &str = "lm_head";

impl Lora {
    /// Adapters called `name`; `seed` decides their first values.
    ///
    /// # Errors
    /// [`LoraError`] for an impossible configuration.
    pub fn new(name: &str, config: LoraConfig, seed: u64) -> Result<Self, LoraError> {
        config.check()?;
        Ok(Self {
            name: name.to_owned(),
            config,
            seed,
            dropout: DropoutSeed::default(),
            matrices: None,
            saved: Arc::default(),
            sites: Arc::default(),
            saved_sites: Arc::default(),
        })
    }

    /// Adapters that begin with these matrices, beside the projections they are for.
    ///
    /// # Errors
    /// [`LoraError`] for an impossible configuration.
    pub fn with_matrices(
        name: &str,
        config: LoraConfig,
        matrices: BTreeMap<String, LowRank>,
    ) -> Result<Self, LoraError> {
        Ok(Self { matrices: Some(Arc::new(matrices)), ..Self::new(name, config, 0)? })
    }

    /// With whole weights `[N, K]` in place of the base's, by module: [`HEAD`], [`EMBEDDING`].
    #[must_use]
    pub fn with_saved(mut self, saved: BTreeMap<String, TensorView>) -> Self {
        self.saved = Arc::new(saved);
        self
    }

    /// The matrices that adapters begin with, by projection; none where they begin at random.
    pub fn matrices(&self) -> &BTreeMap<String, LowRank> {
        static NONE: BTreeMap<String, LowRank> = BTreeMap::new();
        self.matrices.as_deref().unwrap_or(&NONE)
    }

    /// Whole weights in place of the base's, by module.
    pub fn saved(&self) -> &BTreeMap<String, TensorView> {
        &self.saved
    }

    /// Whether a head that was the table of embeddings is another than the table with this adapter.
    pub fn unties(&self) -> bool {
        let adapted = [EMBEDDING, HEAD].iter().any(|name| self.matrices().contains_key(*name));
        let same = match (self.saved.get(EMBEDDING), self.saved.get(HEAD)) {
            (None, None) => true,
            // PEFT writes a weight that both share twice.
            (Some(table), Some(head)) => table.dtype == head.dtype && table.bytes == head.bytes,
            _ => false,
        };
        adapted || !same
    }

    /// What there are matrices or whole weights for and that no adapter has been put beside: what was given
    /// and not used.
    pub fn unplaced(&self) -> Vec<String> {
        let (sites, saved_sites) = (self.sites(), self.saved_sites());
        let placed = |name: &&String| sites.iter().any(|site| site.name == **name);
        let saved = |name: &&String| saved_sites.iter().any(|site| site.name == **name);
        let matrices = self.matrices().keys().filter(|name| !placed(name));
        matrices.chain(self.saved.keys().filter(|name| !saved(name))).cloned().collect()
    }

    /// Where whole weights have been put.
    pub fn saved_sites(&self) -> Vec<SavedSite> {
        self.saved_sites.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where adapters have been put.
    pub fn sites(&self) -> Vec<LoraSite> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The adapters' name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Their configuration.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// What decides the dropout masks of a step; a trainer sets it.
    pub fn dropout_seed(&self) -> DropoutSeed {
        self.dropout.clone()
    }

    /// The projection `name` with an adapter beside it, or by itself where it is not a target.
    pub fn wrap<B: Backend, L: Linear<B>>(&self, name: &str, linear: L) -> LoraLinear<B, L> {
        self.add(name, LoraLinear::new(linear))
    }

    /// Another adapter beside those that the projection `name` has; it is switched on, the others
    /// stay as they are.
    pub fn add<B: Backend, L: Linear<B>>(
        &self,
        name: &str,
        mut linear: LoraLinear<B, L>,
    ) -> LoraLinear<B, L> {
        let is_target = match &self.matrices {
            Some(matrices) => matrices.contains_key(name),
            None => self.config.is_target(name),
        };
        let device = linear.base_device();
        if is_target {
            let adapter = self.placed(name, linear.base.shape(), &device);
            linear.push(adapter);
        }
        if let Some(weight) = self.saved_weight(name, &device) {
            linear.saved = Some(weight);
        }
        linear
    }

    /// The table of embeddings, with what the adapter has for it; and for the head where that is `tied` to it,
    /// as then no projection stands for it.
    pub fn wrap_embedding<B: Backend, E: Embedding<B>>(
        &self,
        embedding: E,
        tied: bool,
    ) -> LoraEmbedding<B, E> {
        let device = embedding.devices().into_iter().next().unwrap_or_default();
        let shape = embedding.shape();
        let adapter = |name: &str| {
            self.matrices().contains_key(name).then(|| self.placed(name, shape, &device))
        };
        let head = tied.then_some(HEAD);
        LoraEmbedding {
            saved: self.saved_weight(EMBEDDING, &device),
            adapter: adapter(EMBEDDING),
            saved_head: head.and_then(|name| self.saved_weight(name, &device)),
            head_adapter: head.and_then(adapter),
            base: embedding,
        }
    }

    /// As [`wrap`](Self::wrap), where `config().modules_to_save` names the projection with a copy of its weight
    /// to be trained in place of it, in f32. It must not have a bias.
    ///
    /// # Errors
    /// [`LoraError::SavedTarget`] where it was to have an adapter as well.
    pub fn wrap_in_training<B: Backend, L: EffectiveWeight<B>>(
        &self,
        name: &str,
        linear: L,
    ) -> Result<LoraLinear<B, L>, LoraError> {
        if !self.config.is_saved(name) {
            return Ok(self.wrap(name, linear));
        }
        if self.config.is_target(name) {
            return Err(LoraError::SavedTarget { module: name.to_owned() });
        }
        let weight = self.trained_copy(name, linear.weight());
        let mut wrapped = LoraLinear::new(linear);
        wrapped.saved = Some(weight);
        Ok(wrapped)
    }

    /// The table of embeddings, with a copy of it to be trained where `config().modules_to_save` names it; and one
    /// for the head where that is named and `tied` to the table.
    pub fn wrap_embedding_in_training<B: Backend, E: Embedding<B> + MasterWeight<B>>(
        &self,
        table: E,
        tied: bool,
    ) -> LoraEmbedding<B, E> {
        let copy = |name: &str| {
            self.config.is_saved(name).then(|| self.trained_copy(name, table.master_weight()))
        };
        let (saved, saved_head) = (copy(EMBEDDING), if tied { copy(HEAD) } else { None });
        LoraEmbedding { saved, saved_head, ..LoraEmbedding::new(table) }
    }

    fn trained_copy<B: Backend>(&self, name: &str, weight: Tensor<B, 2>) -> Param<Tensor<B, 2>> {
        let device = weight.device();
        let data = weight.cast(DType::F32).into_data();
        let weight = Param::from_tensor(Tensor::from_data(data, (&device, DType::F32)));
        let site = SavedSite { name: name.to_owned(), weight: weight.id };
        self.saved_sites.lock().unwrap_or_else(PoisonError::into_inner).push(site);
        weight
    }

    /// The whole weight of `name`, if there is one, which is told as placed.
    fn saved_weight<B: Backend>(
        &self,
        name: &str,
        device: &B::Device,
    ) -> Option<Param<Tensor<B, 2>>> {
        let weight = Param::from_tensor(elements::tensor(self.saved.get(name)?, device));
        let site = SavedSite { name: name.to_owned(), weight: weight.id };
        self.saved_sites.lock().unwrap_or_else(PoisonError::into_inner).push(site);
        Some(weight)
    }

    /// The adapter of `name`, which is told as placed.
    fn placed<B: Backend>(
        &self,
        name: &str,
        shape: [usize; 2],
        device: &B::Device,
    ) -> LoraAdapter<B> {
        let adapter = self.adapter(name, shape, device);
        let (lora_a, lora_b) = (adapter.lora_a.id, adapter.lora_b.id);
        let site = LoraSite { name: name.to_owned(), lora_a, lora_b };
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).push(site);
        adapter
    }

    /// A fresh adapter: `A` uniform within `1 / sqrt(K)`, as in PEFT, and `B` zero, so that nothing
    /// changes at first; or the matrices that there are.
    fn adapter<B: Backend>(
        &self,
        name: &str,
        [n, k]: [usize; 2],
        device: &B::Device,
    ) -> LoraAdapter<B> {
        let (rank, scale) = (self.config.rank, self.config.scale());
        let (rank, scale, a, b) = match self.matrices.as_ref().and_then(|all| all.get(name)) {
            Some(low) => (low.rank, low.scale, low.lora_a.clone(), low.lora_b.clone()),
            None => {
                let bound = 1.0 / (k as f32).sqrt();
                let a = random::uniform(self.seed, name, rank * k, bound);
                (rank, scale, a, vec![0.0; n * rank])
            }
        };
        let tensor = |values, shape: [usize; 2]| {
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
        };
        LoraAdapter {
            name: self.name.clone(),
            lora_a: tensor(a, [rank, k]),
            lora_b: tensor(b, [n, rank]),
            scale,
            dropout: self.config.dropout,
            stream: random::stream(self.seed, name),
            dropout_seed: self.dropout.clone(),
            enabled: true,
        }
    }
}
