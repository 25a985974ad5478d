//! `Repository`: a server's models, loaded when they are asked for.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lightglm_core::{KV_BLOCK, KvShape};
use lightglm_model::config::MediaConfig;
use lightglm_serve::http::{LoadedModel, ModelBytes, ModelEntry, ModelRepository};
use lightglm_text::ChatText;

use super::{ServedModel, ServerOptions, loaded};
use crate::checkpoint::{Checkpoint, is_quantized};
use crate::error::Error;
use crate::model::{LoadOptions, Model, Weights, weight_bytes};

/// The models of a server.
pub(super) struct Repository {
    models: Vec<Entry>,
    options: ServerOptions,
}

struct Entry {
    served: ServedModel,
    entry: ModelEntry,
    /// A model that was there before the server was.
    ready: Mutex<Option<LoadedModel>>,
    text: Mutex<Option<Arc<dyn ChatText>>>,
}

impl Repository {
    /// Of models that are on this machine the headers are read.
    ///
    /// # Errors
    /// Where they are at fault.
    pub(super) fn new(models: Vec<ServedModel>, options: ServerOptions) -> Result<Self, Error> {
        let models = models.into_iter().map(|served| {
            served.check()?;
            let mut entry = ModelEntry {
                name: served.name.clone(),
                aliases: served.aliases.clone(),
                keep: served.keep,
                ..ModelEntry::default()
            };
            // A path that is not there is told now; a name may be a hub's, which is asked when it is used.
            let is_path = served.model.is_absolute() || served.model.starts_with(".");
            if is_path || served.model.exists() {
                let (checkpoint, load) = opened(&served)?;
                crate::model::check(&checkpoint, &load)?;
                entry.created = made_at(checkpoint.path());
                entry.max_positions = Some(load.max_context_of(&checkpoint));
                entry.bytes = Some(bytes(&checkpoint, &load, &served, &options)?);
            }
            Ok(Entry { served, entry, ready: Mutex::default(), text: Mutex::default() })
        });
        Ok(Self { models: models.collect::<Result<_, Error>>()?, options })
    }

    /// Of a model that is there, and stays.
    pub(super) fn of_loaded(model: &Model, ready: LoadedModel, options: ServerOptions) -> Self {
        let (checkpoint, load) = (&model.inner.checkpoint, model.options().clone());
        let name = options.model_name.clone().unwrap_or_else(|| model.name().to_owned());
        let path = checkpoint.path().to_owned();
        let served = ServedModel {
            load,
            kv_memory: options.kv_memory,
            keep: true,
            aliases: options.aliases.clone(),
            ..ServedModel::new(name, path)
        };
        let entry = ModelEntry {
            name: served.name.clone(),
            aliases: served.aliases.clone(),
            created: made_at(checkpoint.path()),
            max_positions: Some(model.max_context()),
            // Nobody has to know: it is loaded.
            bytes: bytes(checkpoint, &served.load, &served, &options).ok(),
            keep: true,
        };
        let text = Mutex::new(Some(ready.text.clone()));
        let models = vec![Entry { served, entry, ready: Mutex::new(Some(ready)), text }];
        Self { models, options }
    }

    /// Whether any model sees or hears; one that is not on this machine yet may.
    pub(super) fn may_read_media(&self) -> bool {
        let reads = |entry: &Entry| {
            let file = entry.served.model.join("config.json");
            match MediaConfig::from_file(&file) {
                Ok(media) => media.is_some(),
                // A GGUF file has none; a name on a hub is not here.
                Err(_) => !entry.served.model.exists(),
            }
        };
        cfg!(feature = "media") && self.models.iter().any(reads)
    }

    fn find(&self, name: &str) -> Result<&Entry, Error> {
        let found = self.models.iter().find(|model| model.entry.name == name);
        found.ok_or_else(|| super::wrong("model", &format!("there is no model `{name}`")))
    }

    fn try_bytes(&self, name: &str) -> Result<ModelBytes, Error> {
        let Entry { served, entry, .. } = self.find(name)?;
        if let Some(known) = entry.bytes {
            return Ok(known);
        }
        let (checkpoint, load) = opened(served)?;
        bytes(&checkpoint, &load, served, &self.options)
    }

    fn try_load(&self, name: &str) -> Result<LoadedModel, Error> {
        let Entry { served, ready, .. } = self.find(name)?;
        if let Some(ready) = ready.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(ready);
        }
        let (checkpoint, load) = opened(served)?;
        let model = Model::from_checkpoint(checkpoint, load)?;
        let options = ServerOptions {
            kv_memory: served.kv_memory,
            sampling: served.sampling.clone(),
            default_max_tokens: served.default_max_tokens,
            ..self.options.clone()
        };
        Ok(loaded(&model, &options)?.0)
    }

    fn try_text(&self, name: &str) -> Result<Arc<dyn ChatText>, Error> {
        let Entry { served, text, .. } = self.find(name)?;
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = &*text {
            return Ok(text.clone());
        }
        let (checkpoint, load) = opened(served)?;
        let mut read = checkpoint.text()?;
        read.template = read.template.with_folded_tools(load.fold_tools);
        Ok(text.insert(Arc::new(read)).clone())
    }
}

impl ModelRepository for Repository {
    fn entries(&self) -> Vec<ModelEntry> {
        self.models.iter().map(|model| model.entry.clone()).collect()
    }

    fn bytes(&self, model: &str) -> Result<ModelBytes, String> {
        self.try_bytes(model).map_err(|error| error.to_string())
    }

    fn load(&self, model: &str) -> Result<LoadedModel, String> {
        self.try_load(model).map_err(|error| error.to_string())
    }

    fn text(&self, model: &str) -> Result<Arc<dyn ChatText>, String> {
        self.try_text(model).map_err(|error| error.to_string())
    }

    fn adapters(&self, model: &str) -> Vec<String> {
        let Ok(Entry { served, .. }) = self.find(model) else { return Vec::new() };
        served.load.adapters.as_deref().map(adapters_in).unwrap_or_default()
    }
}

/// Names of the folders that have an adapter, sorted. A folder that cannot be read has none: whoever loads one of
/// them is told.
fn adapters_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let is_one = entry.path().join("adapter_config.json").is_file();
        (is_one && !name.starts_with('.')).then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// The checkpoint, and how it is loaded.
fn opened(served: &ServedModel) -> Result<(Checkpoint, LoadOptions), Error> {
    let checkpoint = crate::checkpoint::open(&served.model, &served.load.progress)?;
    let mut load = served.load.clone();
    if load.weights == Weights::Stored
        && !is_quantized(&checkpoint)
        && let Some(policy) = &served.dense
    {
        load.weights = Weights::Policy(policy.clone());
    }
    Ok((checkpoint, load))
}

/// What the model takes once it is loaded.
fn bytes(
    checkpoint: &Checkpoint,
    load: &LoadOptions,
    served: &ServedModel,
    options: &ServerOptions,
) -> Result<ModelBytes, Error> {
    let shape = KvShape::from(checkpoint.config());
    let per_block = KV_BLOCK * shape.bytes_per_position(load.kv_dtype);
    let options = ServerOptions { kv_memory: served.kv_memory, ..options.clone() };
    let blocks = options.blocks(load.max_context_of(checkpoint), per_block)?;
    Ok(ModelBytes {
        weights: weight_bytes(checkpoint, &load.weights)?,
        kv_cache: (blocks as u64).saturating_mul(per_block as u64),
    })
}

/// When a model's file or folder was last written to: seconds since 1970, 0 where that cannot be known.
fn made_at(path: &Path) -> u64 {
    let written = std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let since = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}
