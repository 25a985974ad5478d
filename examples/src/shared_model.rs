//! A model that a server's requests and its adapters share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use lightglm_core::{Embedding, Linear};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{Glm, SwiGlu};
use lightglm_quant::{Policy, QuantizedCheckpoint};
use lightglm_serve::engine::{AdapterLoader, SharedModel};
use lightglm_train::peft::load_adapter;

use crate::precision::Precision;
use crate::serving::{load_dense, matrices, quantized};

/// A base model, and what makes adapted ones of it.
pub struct SharedLm<B: LmBackend> {
    /// The base model.
    pub model: SharedModel<B>,
    /// How its weights are held: `bf16`, `int8`, a policy.
    pub scheme: String,
    /// Makes models of the folders in `--adapters`; `None` without that.
    pub loader: Option<AdapterLoader<B>>,
}

impl<B: LmBackend> SharedLm<B> {
    /// Loads `checkpoint`, as [`serve`](crate::serving::serve) does; adapters are folders in `adapters`.
    ///
    /// # Errors
    /// As [`serve`](crate::serving::serve).
    pub fn open(
        checkpoint: &Checkpoint,
        policy: Option<&Policy>,
        precision: Option<Precision>,
        adapters: Option<PathBuf>,
        device: &B::Device,
    ) -> Result<Self> {
        let config = checkpoint.config();
        if policy.is_some() || QuantizedCheckpoint::is_one(checkpoint.weights()) {
            ensure!(
                precision.is_none(),
                "--dtype is for dense models, --scheme for quantized ones"
            );
            let quantized = quantized::<B>(checkpoint, policy, device)?;
            return Ok(Self::new(quantized.model, quantized.scheme, config, adapters));
        }
        let (model, scheme) = load_dense::<B>(checkpoint, precision, device)?;
        Ok(Self::new(model, scheme, config, adapters))
    }

    /// `model`, whose adapters are folders in `adapters`.
    pub fn new<L, E>(
        model: Glm<B, L, SwiGlu<B, L>, E>,
        scheme: String,
        config: &GlmConfig,
        adapters: Option<PathBuf>,
    ) -> Self
    where
        L: Linear<B> + Send + Sync + 'static,
        E: Embedding<B> + Send + Sync + 'static,
    {
        let model = Arc::new(model);
        let loader = adapters.map(|folder| loader(Arc::clone(&model), config.clone(), folder));
        Self { model, scheme, loader }
    }
}

/// Models with LoRA matrices beside the projections of `base`, whose weights they share.
fn loader<B: LmBackend, L, E>(
    base: Arc<Glm<B, L, SwiGlu<B, L>, E>>,
    config: GlmConfig,
    folder: PathBuf,
) -> AdapterLoader<B>
where
    L: Linear<B> + Send + Sync + 'static,
    E: Embedding<B> + Send + Sync + 'static,
{
    let shapes = matrices(&config);
    Box::new(move |name| {
        let path = folder_in(&folder, name)?;
        let shape =
            |wanted: &str| shapes.iter().find(|(name, _)| name == wanted).map(|&(_, shape)| shape);
        let lora = load_adapter(&path, name, &shape).map_err(|error| format!("{error:#}"))?;
        let mut wrap = |name: &str, linear: L| lora.wrap(name, linear);
        Ok(Arc::new(Glm::clone(&base).map_linears(&mut wrap)))
    })
}

/// `folder/name`, where `name` is a single, ordinary name.
fn folder_in(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(part)), None) if part == name => Ok(folder.join(name)),
        _ => Err("is not the name of a folder".into()),
    }
}
