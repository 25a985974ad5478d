//! `ModelFolder`: writing a model as a folder that every program here opens.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lightglm_core::{WeightSource, save_safetensors};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_quant::Policy;

use crate::whole_file::write_whole;

/// A folder that is becoming a model: the weights are the caller's to write, config.json comes last.
pub struct ModelFolder {
    folder: PathBuf,
    text_files: Vec<(String, Vec<u8>)>,
    config_json: String,
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
    pub fn begin(folder: &Path, checkpoint: &Checkpoint, policy: Option<&Policy>) -> Result<Self> {
        let text_files = checkpoint.text_files()?;
        let eos_token_ids = checkpoint.eos_token_ids()?;
        let mut config = GlmConfig { eos_token_ids, ..checkpoint.config().clone() };
        if policy.is_none() {
            config.dtype = Some("float32".to_owned());
        }
        let mut json: serde_json::Value = serde_json::from_str(&config.to_json())?;
        if let Some(policy) = policy {
            json["quantization_config"] =
                serde_json::json!({"quant_method": "lightglm", "policy": policy.to_string()});
        }
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for stale in ["config.json", "model.safetensors.index.json"] {
            match std::fs::remove_file(folder.join(stale)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| folder.join(stale).display().to_string());
                }
                _ => {}
            }
        }
        Ok(Self { folder: folder.to_path_buf(), text_files, config_json: format!("{json:#}\n") })
    }

    /// The file of the weights.
    pub fn weights(&self) -> PathBuf {
        self.folder.join("model.safetensors")
    }

    /// Writes everything but the weights.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub fn finish(self) -> Result<()> {
        for (name, bytes) in &self.text_files {
            write_whole(&self.folder.join(name), bytes)?;
        }
        write_whole(&self.folder.join("config.json"), self.config_json)
    }
}

/// Writes `weights` as a model folder, with the text side and the configuration of `checkpoint`;
/// config.json comes last, so that an unfinished folder is no model.
///
/// # Errors
/// Where the folder cannot be written.
pub fn save(weights: &dyn WeightSource, checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    let output = ModelFolder::begin(folder, checkpoint, None)?;
    save_safetensors(output.weights(), weights, &BTreeMap::new())?;
    output.finish()
}
