//! `Stages`: a pipeline's folder, in which each stage has its own and is done or not.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lightglm::write_whole;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file of what decides a run's results.
const SETTINGS: &str = "settings.txt";

/// The folder of a pipeline.
///
/// A stage is a model's folder, whose config.json is written last: one that is there is whole. What a stage has to tell
/// beside it is a file of JSON that is written before the model is.
#[derive(Clone, Debug)]
pub struct Stages {
    folder: PathBuf,
}

impl Stages {
    /// A fresh run in `folder`, or with `resume` the one that is there, if any, which has to be of the same `settings`.
    ///
    /// # Errors
    /// Where the folder cannot be written to, or holds a run that is not to be resumed or is another.
    pub fn open(folder: &Path, resume: bool, settings: &str) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let file = folder.join(SETTINGS);
        let shown = folder.display();
        match fs::read_to_string(&file) {
            Ok(_) if !resume => bail!("{shown}: holds a run: --resume, or another --output"),
            Ok(found) if found.trim_end() != settings => {
                bail!(
                    "{shown}: holds a run of other settings: `{}`, now `{settings}`",
                    found.trim_end()
                )
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write_whole(&file, format!("{settings}\n"))?;
            }
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// A file or a folder of the pipeline.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether the model in the folder `name` is whole.
    pub fn is_done(&self, name: impl AsRef<Path>) -> bool {
        self.path(name).join("config.json").exists()
    }

    /// Keeps what a stage has to tell.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn tell(&self, name: &str, told: &impl Serialize) -> Result<()> {
        Ok(write_whole(&self.path(name), serde_json::to_string_pretty(told)?)?)
    }

    /// What a stage told.
    ///
    /// # Errors
    /// Where the file is not there or is damaged.
    pub fn told<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let file = self.path(name);
        let read = || Ok::<_, anyhow::Error>(serde_json::from_slice(&fs::read(&file)?)?);
        read().with_context(|| file.display().to_string())
    }
}
