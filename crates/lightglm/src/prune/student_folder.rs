//! A student as a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use lightglm_core::{
    ProjectionLayout, SafetensorsWriter, TensorSpec, WeightDtype, WeightSource, python_json,
};
use lightglm_distill::student::{KeptTokens, Slice, SlicedWeights, StudentShape};
use lightglm_model::checkpoint::{Checkpoint, Stored};
use lightglm_model::config::{ADAPTERS_KEY, GlmConfig, WeightLayout};
use lightglm_model::weights::{SafetensorsCheckpoint, check_tensors};
use serde_json::{Value, json};

use super::{PruneError, config_json, refuse_quantized, shape_of, tokenizer_files};
use crate::error::Error;
use crate::model::refuse_encoder;
use crate::new_folder::{NewFolder, at};
use crate::progress::ProgressSink;
use crate::quantize::check_folder;

const DOING: &str = "writing";
const WEIGHTS: &str = "model.safetensors";

/// Files beside the weights that [`Checkpoint::text_files`] does not name; they hold a whole vocabulary.
const OTHERS: [&str; 4] = ["tokenizer.model", "vocab.json", "merges.txt", "chat_template.json"];

/// How large a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ModelSize {
    /// Parameters; a tied head counts once.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
}

impl ModelSize {
    /// Of the dense model of `checkpoint`.
    pub(super) fn of(checkpoint: &Checkpoint) -> Result<Self, Error> {
        let bytes = |(dtype, stored): (String, Stored)| {
            let size = if dtype == WeightDtype::F32.name() { 4 } else { 2 };
            stored.parameters * size
        };
        let bytes = checkpoint.stored_dtypes()?.into_iter().map(bytes).sum();
        Ok(Self { parameters: checkpoint.config().num_parameters(), bytes })
    }
}

/// How a slice is written.
#[derive(Clone, Debug, Default)]
pub struct CutOptions {
    /// What the weights of norms are multiplied by, by their names in the teacher without `.weight`
    /// ([`Importance::norm_scales`](super::Importance::norm_scales)); by default they stay as they are.
    pub norm_scales: BTreeMap<String, f64>,
    /// Whether what is in the folder may be replaced; by default not.
    pub overwrite: bool,
    /// Told how far the work is.
    pub progress: ProgressSink,
}

/// Writes what `slice` leaves of the model of `checkpoint` to `folder`, as [`prune`](super::prune()) does: the student's
/// configuration, and how large it is.
///
/// # Errors
/// [`Error::Prune`] for a quantized model, and where tokens go, for a tokenizer that cannot be cut or tokens that files
/// need; [`Error::Student`] for a slice that the model does not have; [`Error::FolderNotEmpty`],
/// [`Error::FolderIsModel`]; [`Error::Weights`], [`Error::Io`], [`Error::Interrupted`].
pub fn cut(
    checkpoint: &Checkpoint,
    slice: &Slice,
    options: &CutOptions,
    folder: &Path,
) -> Result<(GlmConfig, ModelSize), Error> {
    refuse_quantized(checkpoint)?;
    refuse_encoder(checkpoint, "cutting")?;
    check_folder(folder, checkpoint.path(), options.overwrite)?;
    check_tensors(checkpoint.weights(), checkpoint.config(), checkpoint.path())?;
    let ids = slice.vocabulary.iter().filter_map(|&id| u32::try_from(id).ok());
    let vocabulary =
        (slice.vocabulary.len() < checkpoint.config().vocab_size).then(|| KeptTokens::new(ids));
    Student { checkpoint, slice, options, vocabulary }.write(folder)
}

struct Student<'a> {
    checkpoint: &'a Checkpoint,
    slice: &'a Slice,
    options: &'a CutOptions,
    /// Where not all tokens are kept.
    vocabulary: Option<KeptTokens>,
}

impl Student<'_> {
    fn write(&self, folder: &Path) -> Result<(GlmConfig, ModelSize), Error> {
        let checkpoint = self.checkpoint;
        let path = checkpoint.path();
        let teacher = shape_of(checkpoint.config());
        // Where it can be, the folder's own layout.
        let own = match checkpoint.folder_layout() {
            Some(WeightLayout::Glm | WeightLayout::Llama) => {
                Some(SafetensorsCheckpoint::open(path)?)
            }
            _ => None,
        };
        let source: &dyn WeightSource = match &own {
            Some(own) => own,
            None => checkpoint.weights(),
        };
        let weights = SlicedWeights::new(source, path, teacher, self.slice)?
            .with_norm_scales(self.options.norm_scales.clone());
        let json = match own {
            Some(_) => json_of(&path.join("config.json"))?,
            None => self.translated_config(),
        };
        self.check_named(&json)?;
        let config_json = self.config_json(json, weights.student());
        // What was written here is what will be read.
        let config =
            GlmConfig::from_json(&config_json).map_err(|error| Error::Checkpoint(error.into()))?;
        let files = self.text_files()?;

        let mut output = NewFolder::begin(folder)?;
        let bytes = self.write_weights(&weights, &output.weights(WEIGHTS))?;
        output.finish(&files, config_json.as_bytes())?;
        let parameters = config.num_parameters();
        Ok((config, ModelSize { parameters, bytes }))
    }

    /// The configuration of what the checkpoint's tensors are translated to.
    fn translated_config(&self) -> Value {
        let config = self.checkpoint.config().to_json();
        let mut json: Value = serde_json::from_str(&config).expect("JSON of our own");
        if self.checkpoint.adapter_layout() != ProjectionLayout::Glm {
            json[ADAPTERS_KEY] = json!("llama");
        }
        json
    }

    /// Refuses to leave out a token that the configuration `json` names.
    fn check_named(&self, json: &Value) -> Result<(), Error> {
        let Some(kept) = &self.vocabulary else { return Ok(()) };
        let mut named = tokenizer_files::named_ids(json).into_iter();
        match named.find(|id| kept.number(*id).is_none()) {
            Some(id) => {
                let file = self.checkpoint.path().join("config.json");
                Err(PruneError::TokenNotKept { file, id }.into())
            }
            None => Ok(()),
        }
    }

    fn config_json(&self, mut json: Value, student: &StudentShape) -> String {
        config_json::resize(&mut json, self.checkpoint.config(), student, &self.slice.layers);
        let scales = self.options.norm_scales.values();
        if scales.len() > 0 {
            // The mean square that eps stands beside is another by the square of the scale.
            let squares = scales.clone().map(|scale| scale * scale).sum::<f64>();
            let eps = self.checkpoint.config().rms_norm_eps * squares / scales.len() as f64;
            json["rms_norm_eps"] = json!(eps);
        }
        if let Some(kept) = &self.vocabulary {
            tokenizer_files::renumber_ids(&mut json, kept);
        }
        format!("{json:#}\n")
    }

    /// The files beside the weights, with the student's ids.
    fn text_files(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let path = self.checkpoint.path();
        let mut files = self.checkpoint.text_files()?;
        if let Some(kept) = &self.vocabulary {
            tokenizer_files::renumber(&mut files, kept, path)?;
            return Ok(files);
        }
        let others = OTHERS.iter().filter(|_| path.is_dir());
        for name in others {
            match fs::read(path.join(name)) {
                Ok(bytes) => files.push(((*name).to_owned(), bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(at(&path.join(name), source)),
            }
        }
        Ok(files)
    }

    fn write_weights(&self, weights: &SlicedWeights<'_>, file: &Path) -> Result<u64, Error> {
        let mut specs = Vec::new();
        for name in weights.names() {
            let (dtype, shape) = (weights.dtype(&name)?, weights.shape(&name));
            let shape = shape.unwrap_or_default();
            specs.push(TensorSpec { name, dtype: dtype.into(), shape });
        }
        let bytes = specs.iter().map(|spec| spec.bytes() as u64).sum();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let mut writer = SafetensorsWriter::create(file, specs, &metadata)?;
        let mut done = 0;
        for spec in writer.order().to_vec() {
            self.options.progress.working(DOING, done, bytes)?;
            writer.write(&weights.tensor(&spec.name)?.bytes)?;
            done += spec.bytes() as u64;
        }
        self.options.progress.working(DOING, done, bytes)?;
        writer.finish()?;
        Ok(bytes)
    }
}

/// The JSON in `file`.
fn json_of(file: &Path) -> Result<Value, Error> {
    let bytes = fs::read(file).map_err(|source| at(file, source))?;
    python_json(&bytes).map_err(|error| at(file, error.into()))
}
