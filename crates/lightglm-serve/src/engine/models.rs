//! The base model and its adapters, by name.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::backend::Backend;
use lightglm_core::CausalLm;

/// A model that several requests run, and that another thread may have loaded.
pub type SharedModel<B> = Arc<dyn CausalLm<B> + Send + Sync>;

/// Makes the model of an adapter's name, or says why it cannot.
///
/// It is called in the thread of whoever asked for the adapter. Cloning a decoder shares its weights,
/// so that a model with LoRA matrices around a clone of the base model costs their size alone.
pub type AdapterLoader<B> = Box<dyn Fn(&str) -> Result<SharedModel<B>, AdapterFault> + Send + Sync>;

/// Why a loader made no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdapterFault {
    /// The adapter is at fault, in words for whoever asked for it: they name nothing of the machine.
    Adapter(String),
    /// Anything else, for the log.
    Loader(String),
}

impl From<&str> for AdapterFault {
    fn from(reason: &str) -> Self {
        Self::Loader(reason.to_owned())
    }
}

/// A model, and what keeps its keys and values apart from those of others.
#[derive(Clone)]
pub(super) struct ModelSlot<B: Backend> {
    /// Never used twice: an adapter that is loaded again finds nothing of its former self.
    pub(super) salt: u64,
    pub(super) model: SharedModel<B>,
}

/// A [`ModelSlot`] of a backend that the holder need not know.
pub(super) type AnySlot = Arc<dyn Any + Send + Sync>;

type Load = Box<dyn Fn(&str, u64) -> Result<AnySlot, AdapterFault> + Send + Sync>;

/// The adapters that requests can name.
pub(super) struct Adapters {
    load: Option<Load>,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    slots: BTreeMap<String, AnySlot>,
    last_salt: u64,
}

/// Why an adapter was not loaded or unloaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The engine was built without an [`AdapterLoader`].
    #[error("this server has no adapters")]
    NotConfigured,
    /// The name is taken.
    #[error("adapter `{name}` is loaded already")]
    AlreadyLoaded {
        /// The adapter.
        name: String,
    },
    /// There is no such adapter.
    #[error("adapter `{name}` is not loaded")]
    NotLoaded {
        /// The adapter.
        name: String,
    },
    /// The adapter does not fit the model, or is none.
    #[error("adapter `{name}`: {reason}")]
    Unfit {
        /// The adapter.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The loader failed.
    #[error("adapter `{name}`: {reason}")]
    Failed {
        /// The adapter.
        name: String,
        /// The loader's words.
        reason: String,
    },
}

impl AdapterError {
    fn new(name: &str, fault: AdapterFault) -> Self {
        let name = name.to_owned();
        match fault {
            AdapterFault::Adapter(reason) => Self::Unfit { name, reason },
            AdapterFault::Loader(reason) => Self::Failed { name, reason },
        }
    }
}

impl Adapters {
    pub(super) fn new<B: Backend>(loader: Option<AdapterLoader<B>>, vocab_size: usize) -> Self {
        let load = loader.map(|loader| -> Load {
            Box::new(move |name, salt| {
                let model = loader(name)?;
                let width = model.vocab_size();
                if width != vocab_size {
                    return Err(AdapterFault::Adapter(format!(
                        "its vocabulary is {width}, the base model's {vocab_size}"
                    )));
                }
                Ok(Arc::new(ModelSlot::<B> { salt, model }))
            })
        });
        Self { load, loaded: Mutex::default() }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().slots.keys().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<AnySlot> {
        self.lock().slots.get(name).cloned()
    }

    pub(super) fn load(&self, name: &str) -> Result<(), AdapterError> {
        let load = self.load.as_ref().ok_or(AdapterError::NotConfigured)?;
        let taken = || AdapterError::AlreadyLoaded { name: name.to_owned() };
        let salt = {
            let mut loaded = self.lock();
            if loaded.slots.contains_key(name) {
                return Err(taken());
            }
            loaded.last_salt += 1;
            loaded.last_salt
        };
        // Without the lock: it may take long, and requests look their models up meanwhile.
        let slot = load(name, salt).map_err(|fault| AdapterError::new(name, fault))?;
        match self.lock().slots.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => Err(taken()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(slot);
                Ok(())
            }
        }
    }

    pub(super) fn unload(&self, name: &str) -> Result<(), AdapterError> {
        match self.lock().slots.remove(name) {
            Some(_) => Ok(()),
            None => Err(AdapterError::NotLoaded { name: name.to_owned() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
