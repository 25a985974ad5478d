//! `ModelFolder`: writing a model as a folder that [`Model::open`](crate::Model::open) opens.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use lightglm_core::ProjectionLayout;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{ADAPTERS_KEY, GlmConfig};
use lightglm_quant::Policy;
use serde_json::{Value, json};

use crate::error::Error;
use crate::whole_file::write_whole;

/// A folder that is becoming a model: the weights are the caller's to write, config.json comes last.
///
/// A model that is there already stays as it is until [`finish`](Self::finish). Dropped before that,
/// nothing stays behind, not even a folder where there was none.
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
        if checkpoint.adapter_layout() != ProjectionLayout::Glm {
            json[ADAPTERS_KEY] = json!("llama");
        }
        if let Some(policy) = policy {
            json["quantization_config"] =
                json!({"quant_method": "lightglm", "policy": policy.to_string()});
        }
        let is_ours = !folder.exists();
        fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        let config_json = format!("{json:#}\n");
        Ok(Self { folder: folder.to_owned(), text_files, config_json, is_ours })
    }

    /// The file that the weights are to be written to. [`finish`](Self::finish) gives it its name,
    /// `model.safetensors`.
    pub fn weights(&self) -> PathBuf {
        self.folder.join(".model.safetensors.partial")
    }

    /// Gives the weights their name and writes everything else. What was a model there is none from the
    /// first to the last of it, so that new weights are never read by an old configuration.
    ///
    /// # Errors
    /// [`Error::Io`] where there are no weights or the folder cannot be written to.
    pub fn finish(mut self) -> Result<(), Error> {
        let weights = self.weights();
        fs::metadata(&weights).map_err(|source| at(&weights, source))?;
        for stale in ["config.json", "model.safetensors.index.json"] {
            let stale = self.folder.join(stale);
            match fs::remove_file(&stale) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(at(&stale, source));
                }
                _ => {}
            }
        }
        let named = self.folder.join("model.safetensors");
        fs::rename(&weights, &named).map_err(|source| at(&named, source))?;
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
        // Neither is there in a finished folder.
        let _ = fs::remove_file(self.weights());
        if self.is_ours {
            // Fails where something else is in it, which is not ours to remove.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

fn at(file: &Path, source: io::Error) -> Error {
    Error::Io { file: file.to_owned(), source }
}
