//! LoRA: low-rank adapters beside frozen projections.

mod config;
mod dropout;
mod linear;
mod random;

pub(crate) use config::scale;
pub use config::{LoraConfig, LoraError};
pub use dropout::DropoutSeed;
pub use linear::{LoraAdapter, LoraLinear};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Param, ParamId};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::Linear;

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
    /// Where adapters have been put. Shared by clones.
    sites: Arc<Mutex<Vec<LoraSite>>>,
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

/// The two matrices of an adapter, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// `r`.
    pub rank: usize,
    /// What the update is multiplied with.
    pub scale: f64,
    /// The projection's `[N, K]`.
    pub shape: [usize; 2],
    /// `[r, K]`.
    pub lora_a: Vec<f32>,
    /// `[N, r]`.
    pub lora_b: Vec<f32>,
}

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
            sites: Arc::default(),
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

    /// Projections that there are matrices for and that no adapter has been put beside: what was given
    /// and not used.
    pub fn unplaced(&self) -> Vec<String> {
        let sites = self.sites();
        let placed = |name: &&String| sites.iter().any(|site| site.name == **name);
        let names = self.matrices.iter().flat_map(|matrices| matrices.keys());
        names.filter(|name| !placed(name)).cloned().collect()
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
        if is_target {
            let device = linear.base_device();
            let adapter = self.adapter(name, linear.base.shape(), &device);
            let (lora_a, lora_b) = (adapter.lora_a.id, adapter.lora_b.id);
            let site = LoraSite { name: name.to_owned(), lora_a, lora_b };
            self.sites.lock().unwrap_or_else(PoisonError::into_inner).push(site);
            linear.push(adapter);
        }
        linear
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
