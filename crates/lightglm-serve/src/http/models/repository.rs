//! `ModelRepository`: where the models of a server come from.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use lightglm_generation::SamplingParams;
use lightglm_text::ChatText;

use crate::engine::EngineApi;
use crate::http::constrain::Constrain;
use crate::http::media::ServedMedia;

/// A model of a server's list, whether it is loaded or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelEntry {
    /// Its name in requests and answers.
    pub name: String,
    /// Other names in requests.
    pub aliases: Vec<String>,
    /// When it was made: seconds since 1970.
    pub created: u64,
    /// Tokens that fit into it, prompt and reply together; `None` where that shows once it is loaded.
    pub max_positions: Option<usize>,
    /// What it takes; `None` where that shows once it is loaded.
    pub bytes: Option<ModelBytes>,
    /// Whether it is loaded at the start and stays.
    pub keep: bool,
}

/// Memory of a loaded model, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelBytes {
    /// Of its weights.
    pub weights: u64,
    /// Of its keys and values.
    pub kv_cache: u64,
}

impl ModelBytes {
    /// Both together.
    pub fn total(self) -> u64 {
        self.weights.saturating_add(self.kv_cache)
    }
}

/// A model that is loaded.
pub struct LoadedModel {
    /// What answers.
    pub engine: Arc<dyn EngineApi>,
    /// What reads and writes.
    pub text: Arc<dyn ChatText>,
    /// What makes replies follow schemas and grammars.
    pub constrain: Option<Arc<dyn Constrain>>,
    /// What sees or hears; `None` for a model of text.
    pub media: Option<ServedMedia>,
    /// What a request gets where it does not say.
    pub sampling: SamplingParams,
    /// Dropped when the model leaves, on a thread that may wait: it ends the engine and gives the memory
    /// back.
    pub owner: Box<dyn Any + Send>,
}

impl fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModel").field("sampling", &self.sampling).finish_non_exhaustive()
    }
}

/// Where the models of a server come from, by the names of its [entries](Self::entries).
///
/// `bytes`, `load` and `text` are called on threads that may wait, one at a time. What they say of a failure is
/// for the log: clients are told that there was one.
pub trait ModelRepository: Send + Sync + 'static {
    /// The models, the same ones every time. Names and aliases are all different.
    fn entries(&self) -> Vec<ModelEntry>;

    /// What a model takes once it is loaded, found without loading it.
    ///
    /// # Errors
    /// Where its files are at fault, in words.
    fn bytes(&self, model: &str) -> Result<ModelBytes, String>;

    /// Loads a model.
    ///
    /// # Errors
    /// Where it cannot be loaded, in words.
    fn load(&self, model: &str) -> Result<LoadedModel, String>;

    /// What a model reads and writes by, without loading it.
    ///
    /// # Errors
    /// Where its files are at fault, in words.
    fn text(&self, model: &str) -> Result<Arc<dyn ChatText>, String>;

    /// Names of the adapters that a model's engine can load, sorted: each is a model's name in requests, and is
    /// loaded by the first that uses it.
    fn adapters(&self, model: &str) -> Vec<String> {
        let _ = model;
        Vec::new()
    }
}
