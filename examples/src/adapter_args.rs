//! `AdapterArgs`: one LoRA adapter on the model, for programs that run one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lightglm::{LoadOptions, Model};

use crate::model_args::ModelArgs;

/// One LoRA adapter on the model.
#[derive(Clone, Debug, clap::Args)]
pub struct AdapterArgs {
    /// A folder whose folders are LoRA adapters in PEFT's layout; --adapter names one.
    #[arg(long, value_name = "DIR", requires = "adapter")]
    pub adapters: Option<PathBuf>,
    /// Put the LoRA adapter of this name in --adapters on the model, or, without --adapters, the one in this
    /// folder.
    #[arg(long, value_name = "NAME or DIR")]
    pub adapter: Option<String>,
}

impl AdapterArgs {
    /// Opens the model, with the adapter where there is one.
    ///
    /// # Errors
    /// As [`ModelArgs::open`]; where there is no such adapter, or it does not fit the model.
    pub fn open(&self, model: &ModelArgs, options: LoadOptions) -> Result<Model> {
        self.adapted(options, |options| model.open(options))
    }

    /// As [`open`](Self::open), for a model that `open` opens as it is told.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn adapted(
        &self,
        options: LoadOptions,
        open: impl FnOnce(LoadOptions) -> Result<Model>,
    ) -> Result<Model> {
        let Some((adapters, name)) = self.parts()? else { return open(options) };
        let model = open(LoadOptions { adapters: Some(adapters), ..options })?;
        Ok(model.with_adapter(&name)?)
    }

    /// The adapter's own folder, if there is one.
    ///
    /// # Errors
    /// Where the path of a folder has no name.
    pub fn folder(&self) -> Result<Option<PathBuf>> {
        Ok(self.parts()?.map(|(adapters, name)| adapters.join(name)))
    }

    /// The folder of adapters, and the adapter's name in it.
    fn parts(&self) -> Result<Option<(PathBuf, String)>> {
        let Some(adapter) = &self.adapter else { return Ok(None) };
        if let Some(adapters) = &self.adapters {
            return Ok(Some((adapters.clone(), adapter.clone())));
        }
        // `.` and `..` have no name in their paths.
        let folder = Path::new(adapter).canonicalize();
        let folder = folder.with_context(|| format!("--adapter {adapter}"))?;
        let name = folder.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("--adapter {adapter}: has no name"))?.to_owned();
        let parent = folder.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Some((parent, name)))
    }
}
