//! Students that know nothing yet.

use std::collections::BTreeMap;
use std::path::Path;

use lightglm_core::{SafetensorsWriter, TensorSpec, WeightDtype, WeightSource};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::SeededWeights;

use super::student_folder::ModelSize;
use super::{PruneError, StudentShape, shape_of};
use crate::error::Error;
use crate::new_folder::NewFolder;
use crate::progress::ProgressSink;
use crate::quantize::check_folder;

const DOING: &str = "writing";
const WEIGHTS: &str = "model.safetensors";

/// How a student from scratch is written.
#[derive(Clone, Debug)]
pub struct ScratchOptions {
    /// The precision of its weights; by default f32.
    pub dtype: WeightDtype,
    /// Decides every weight.
    pub seed: u64,
    /// Whether what is in the folder may be replaced; by default not.
    pub overwrite: bool,
    /// Told how far the work is.
    pub progress: ProgressSink,
}

impl Default for ScratchOptions {
    fn default() -> Self {
        let (dtype, progress) = (WeightDtype::F32, ProgressSink::default());
        Self { dtype, seed: 0, overwrite: false, progress }
    }
}

/// Writes a model of `config` with random weights ([`SeededWeights`]) and the text side of `teacher` to `folder`: its
/// tokenizer, chat template and generation settings, and the tokens that end its replies.
///
/// # Errors
/// [`Error::Checkpoint`] for a configuration that is impossible, [`Error::Prune`] for one with fewer rows than the
/// teacher has tokens; [`Error::FolderNotEmpty`], [`Error::FolderIsModel`]; [`Error::Io`], [`Error::Interrupted`].
/// Nothing unfinished stays behind.
pub fn from_scratch(
    teacher: &Checkpoint,
    config: &GlmConfig,
    options: &ScratchOptions,
    folder: &Path,
) -> Result<(StudentShape, ModelSize), Error> {
    let dtype = match options.dtype {
        WeightDtype::F32 => "float32",
        WeightDtype::F16 => "float16",
        WeightDtype::Bf16 => "bfloat16",
    };
    let config = GlmConfig {
        eos_token_ids: teacher.eos_token_ids()?,
        bos_token_id: teacher.config().bos_token_id,
        pad_token_id: teacher.config().pad_token_id,
        dtype: Some(dtype.to_owned()),
        ..config.clone()
    };
    let (tokens, vocab_size) = (teacher.tokenizer()?.vocab_size(), config.vocab_size);
    if tokens > vocab_size {
        return Err(PruneError::TooFewRows { vocab_size, tokens }.into());
    }
    config.check().map_err(|error| Error::Checkpoint(error.into()))?;
    check_folder(folder, teacher.path(), options.overwrite)?;
    let files = teacher.text_files()?;
    let weights = SeededWeights::new(config.clone(), options.dtype, options.seed);
    let spec = |(name, shape)| TensorSpec { name, dtype: options.dtype.into(), shape };
    let specs: Vec<TensorSpec> = config.tensor_shapes().into_iter().map(spec).collect();
    let bytes = specs.iter().map(|spec| spec.bytes() as u64).sum();
    let mut output = NewFolder::begin(folder)?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut writer = SafetensorsWriter::create(output.weights(WEIGHTS), specs, &metadata)?;
    let mut done = 0;
    for spec in writer.order().to_vec() {
        options.progress.working(DOING, done, bytes)?;
        writer.write(&weights.tensor(&spec.name)?.bytes)?;
        done += spec.bytes() as u64;
    }
    options.progress.working(DOING, done, bytes)?;
    writer.finish()?;
    output.finish(&files, config.to_json().as_bytes())?;
    let parameters = config.num_parameters();
    Ok((shape_of(&config), ModelSize { parameters, bytes }))
}
