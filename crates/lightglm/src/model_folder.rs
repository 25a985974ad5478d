//! `ModelFolder`: writing a model as a folder that [`Model::open`](crate::Model::open) opens.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_quant::Policy;
use serde_json::{Value, json};

use crate::error::Error;
use crate::whole_file::write_whole;

/// A folder that is becoming a model: the weights are the caller's to write, config.json comes last.
///
/// Dropped before [`finish`](Self::finish), it leaves no folder where there was none, unless the
/// weights were written already; and never a config.json, so that what is there is no model.
#[derive(Debug)]
pub struct ModelFolder {
    folder: PathBuf,
    text_files: Vec<(String, Vec<u8>)>,
    config_json: String,
    /// Made by us, and not finished.
    is_ours: bool,
}

impl ModelFolder {
    /// Makes the folder. It gets the text side of `checkpoint` and its configuration, with the tokens
    /// that end a reply, and with `policy` where the weights will be packed; without one they are f32.
    ///
    /// What was a model there is none until [`Self::finish`], so that new weights are never read by an
    /// old configuration.
    ///
    /// # Errors
    /// Where the checkpoint's text side is malformed or the folder cannot be written to.
    pub fn begin(
        folder: &Path,
        checkpoint: &Checkpoint,
        policy: Option<&Policy>,
    ) -> Result<Self, Error> {
        let text_files = checkpoint.text_files()?;
        let eos_token_ids = checkpoint.eos_token_ids()?;
        let mut config = GlmConfig { eos_token_ids, ..checkpoint.config().clone() };
        if policy.is_none() {
            config.dtype = Some("float32".to_owned());
        }
        let mut json: Value = serde_json::from_str(&config.to_json()).expect("JSON of our own");
        if let Some(policy) = policy {
            json["quantization_config"] =
                json!({"quant_method": "lightglm", "policy": policy.to_string()});
        }
        let is_ours = !folder.exists();
        let io = |file: &Path, source| Error::Io { file: file.to_owned(), source };
        fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
        for stale in ["config.json", "model.safetensors.index.json"] {
            let stale = folder.join(stale);
            match fs::remove_file(&stale) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(io(&stale, source));
                }
                _ => {}
            }
        }
        let config_json = format!("{json:#}\n");
        Ok(Self { folder: folder.to_owned(), text_files, config_json, is_ours })
    }

    /// The file of the weights.
    pub fn weights(&self) -> PathBuf {
        self.folder.join("model.safetensors")
    }

    /// Writes everything but the weights.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be written to.
    pub fn finish(mut self) -> Result<(), Error> {
        for (name, bytes) in &self.text_files {
            write_whole(&self.folder.join(name), bytes)?;
        }
        write_whole(&self.folder.join("config.json"), &self.config_json)?;
        self.is_ours = false;
        Ok(())
    }
}

impl Drop for ModelFolder {
    fn drop(&mut self) {
        if self.is_ours {
            // Fails where something is in it, which is not ours to remove.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}
