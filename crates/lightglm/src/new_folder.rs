//! `NewFolder`: a model's folder whose files appear together, or not at all.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::whole_file::write_whole;

/// What a reader would take for the model.
const MODEL: [&str; 3] = ["config.json", "model.safetensors.index.json", "model.safetensors"];

/// A folder that becomes a model's: the weights are the caller's to write. Dropped before
/// [`finish`](Self::finish), nothing stays behind, not even a folder where there was none.
#[derive(Debug)]
pub(crate) struct NewFolder {
    folder: PathBuf,
    /// Names of the files of weights.
    weights: Vec<String>,
    /// Made by us, and not finished.
    is_ours: bool,
}

impl NewFolder {
    /// Makes the folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn begin(folder: &Path) -> Result<Self, Error> {
        let is_ours = !folder.exists();
        fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        Ok(Self { folder: folder.to_owned(), weights: Vec::new(), is_ours })
    }

    /// Where the file `name` of weights is to be written for now.
    pub(crate) fn weights(&mut self, name: &str) -> PathBuf {
        self.weights.push(name.to_owned());
        self.partial(name)
    }

    /// What the file `name` is called until it is finished.
    pub(crate) fn partial(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.partial"))
    }

    /// Gives the weights their names, and writes `files` and the configuration. What was a model there is none
    /// meanwhile, so that new weights are never read by an old configuration.
    ///
    /// # Errors
    /// [`Error::Io`] where weights are missing or the folder cannot be written to.
    pub(crate) fn finish(
        mut self,
        files: &[(String, Vec<u8>)],
        config_json: &[u8],
    ) -> Result<(), Error> {
        for name in &self.weights {
            let partial = self.partial(name);
            fs::metadata(&partial).map_err(|source| at(&partial, source))?;
        }
        let stale = MODEL.iter().filter(|name| !self.weights.iter().any(|new| new == *name));
        for stale in stale.map(|name| self.folder.join(name)) {
            match fs::remove_file(&stale) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(at(&stale, source));
                }
                _ => {}
            }
        }
        for name in &self.weights {
            let named = self.folder.join(name);
            fs::rename(self.partial(name), &named).map_err(|source| at(&named, source))?;
        }
        for (name, bytes) in files {
            write_whole(&self.folder.join(name), bytes)?;
        }
        write_whole(&self.folder.join("config.json"), config_json)?;
        self.is_ours = false;
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        for name in &self.weights {
            // None of them is there in a finished folder.
            let _ = fs::remove_file(self.partial(name));
        }
        if self.is_ours {
            // Fails where something else is in it, which is not ours to remove.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// What the operating system said of `file`.
pub(crate) fn at(file: &Path, source: io::Error) -> Error {
    Error::Io { file: file.to_owned(), source }
}
