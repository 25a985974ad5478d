//! `AdapterArgs`: one LoRA adapter on the model, for programs that run one.

use std::path::PathBuf;

use anyhow::Result;
use lightglm::{LoadOptions, Model};

use crate::model_args::ModelArgs;

/// One LoRA adapter on the model.
#[derive(Clone, Debug, clap::Args)]
pub struct AdapterArgs {
    /// A folder whose folders are LoRA adapters in PEFT's layout; --adapter names one.
    #[arg(long, value_name = "DIR", requires = "adapter")]
    pub adapters: Option<PathBuf>,
    /// Put the LoRA adapter of this name in --adapters on the model.
    #[arg(long, value_name = "NAME", requires = "adapters")]
    pub adapter: Option<String>,
}

impl AdapterArgs {
    /// Opens the model, with the adapter where there is one.
    ///
    /// # Errors
    /// As [`ModelArgs::open`]; where there is no such adapter, or it does not fit the model.
    pub fn open(&self, model: &ModelArgs, options: LoadOptions) -> Result<Model> {
        let model = model.open(LoadOptions { adapters: self.adapters.clone(), ..options })?;
        match &self.adapter {
            Some(name) => Ok(model.with_adapter(name)?),
            None => Ok(model),
        }
    }
}
