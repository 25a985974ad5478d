//! `ServedModel`: one of several models of a server.

use std::path::PathBuf;

use lightglm_generation::SamplingParams;
use lightglm_quant::Policy;

use crate::error::Error;
use crate::model::LoadOptions;

/// One of several models of a server; see [`Server::of_models`](super::Server::of_models).
#[derive(Clone, Debug)]
pub struct ServedModel {
    /// Its name in requests and answers.
    pub name: String,
    /// Other names in requests.
    pub aliases: Vec<String>,
    /// A folder, a `.gguf` file, or a name on a hub, which is fetched when the model is first used.
    pub model: PathBuf,
    /// How it is held and run.
    pub load: LoadOptions,
    /// What dense weights become where [`LoadOptions::weights`] are [`Stored`](crate::Weights::Stored); with
    /// nothing they stay as they are.
    pub dense: Option<Policy>,
    /// Bytes for its keys and values; if omitted what [`ServerOptions::max_running`](super::ServerOptions)
    /// requests of 1024 tokens need, and one of the longest.
    pub kv_memory: Option<usize>,
    /// What a request gets where it does not say; if omitted as the model's configuration says.
    pub sampling: Option<SamplingParams>,
    /// Tokens of a chat's reply where the request does not say; if omitted as with one model.
    pub default_max_tokens: Option<usize>,
    /// Whether it is loaded at the start and stays.
    pub keep: bool,
}

impl ServedModel {
    /// A model of this name, loaded as it is stored when it is first used.
    pub fn new(name: impl Into<String>, model: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            aliases: Vec::new(),
            model: model.into(),
            load: LoadOptions::default(),
            dense: None,
            kv_memory: None,
            sampling: None,
            default_max_tokens: None,
            keep: false,
        }
    }

    /// Says what is wrong, before a model is loaded in vain.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<(), Error> {
        self.load.check()?;
        super::Server::check_model(&self.load)?;
        if self.default_max_tokens == Some(0) {
            return Err(super::wrong("default_max_tokens", "must be at least 1"));
        }
        match &self.sampling {
            Some(sampling) => Ok(sampling.validate()?),
            None => Ok(()),
        }
    }
}
