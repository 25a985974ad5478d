//! `ModelFolder`: writing a model as a folder that [`Model::open`](crate::Model::open) opens.

use std::path::{Path, PathBuf};

use lightglm_core::ProjectionLayout;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{ADAPTERS_KEY, GlmConfig};
use lightglm_quant::Policy;
use serde_json::{Value, json};

use crate::error::Error;
use crate::new_folder::NewFolder;

/// A folder that is becoming a model: the weights are the caller's to write, config.json comes last.
///
/// A model that is there already stays as it is until [`finish`](Self::finish). Dropped before that,
/// nothing stays behind, not even a folder where there was none.
#[derive(Debug)]
pub struct ModelFolder {
    folder: NewFolder,
    text_files: Vec<(String, Vec<u8>)>,
    config_json: String,
}

/// The file of the weights.
const WEIGHTS: &str = "model.safetensors";

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
        let mut config = checkpoint.config().clone();
        if policy.is_none() {
            config.dtype = Some("float32".to_owned());
        }
        Self::begin_as(folder, checkpoint, config, policy)
    }

    /// As [`begin`](Self::begin), with `config` in place of the checkpoint's own.
    pub(crate) fn begin_as(
        folder: &Path,
        checkpoint: &Checkpoint,
        config: GlmConfig,
        policy: Option<&Policy>,
    ) -> Result<Self, Error> {
        let text_files = checkpoint.text_files()?;
        let eos_token_ids = checkpoint.eos_token_ids()?;
        let config = GlmConfig { eos_token_ids, ..config };
        let mut json: Value = serde_json::from_str(&config.to_json()).expect("JSON of our own");
        if checkpoint.adapter_layout() != ProjectionLayout::Glm {
            json[ADAPTERS_KEY] = json!("llama");
        }
        if let Some(policy) = policy {
            json["quantization_config"] =
                json!({"quant_method": "lightglm", "policy": policy.to_string()});
        }
        let mut folder = NewFolder::begin(folder)?;
        folder.weights(WEIGHTS);
        Ok(Self { folder, text_files, config_json: format!("{json:#}\n") })
    }

    /// The file that the weights are to be written to. [`finish`](Self::finish) gives it its name,
    /// `model.safetensors`.
    pub fn weights(&self) -> PathBuf {
        self.folder.partial(WEIGHTS)
    }

    /// Gives the weights their name and writes everything else. What was a model there is none from the
    /// first to the last of it, so that new weights are never read by an old configuration.
    ///
    /// # Errors
    /// [`Error::Io`] where there are no weights or the folder cannot be written to.
    pub fn finish(self) -> Result<(), Error> {
        self.folder.finish(&self.text_files, self.config_json.as_bytes())
    }
}
