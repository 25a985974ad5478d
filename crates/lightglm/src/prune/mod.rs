//! Students: smaller models made of a teacher, by leaving out what a text shows to matter least.
//!
//! | what is left out | what decides |
//! |---|---|
//! | layers | block influence (ShortGPT): how far a block turns the residual stream |
//! | neurons of the feed-forward parts | the size of what they hand to `down_proj` |
//! | attention heads, within or with their key and value heads | the size of what they hand to `o_proj` |
//! | channels of the residual stream | the size of what the norms give them |
//! | tokens | those of a text, closed under merges; bytes and special tokens stay |
//!
//! What comes out is a folder in the teacher's layout that other programs read as they read the teacher. It is to be
//! taught before it is of use: pruning is where distillation begins.
//!
//! ```no_run
//! use lightglm::prune::{PruneOptions, Wanted, prune};
//! use lightglm::evaluate::first_tokens;
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let teacher = lightglm::checkpoint::open("glm-4-9b-0414", &Default::default())?;
//! let text = std::fs::read_to_string("calibration.txt").unwrap_or_default();
//! let options = PruneOptions {
//!     wanted: Wanted { num_hidden_layers: Some(28), intermediate_size: Some(8192), ..Wanted::default() },
//!     calibration: first_tokens(&teacher.tokenizer()?, &text, 65_536)?,
//!     ..PruneOptions::default()
//! };
//! let report = prune(&teacher, &options, "student".as_ref())?;
//! println!("{} of {} parameters", report.after.parameters, report.before.parameters);
//! # Ok(())
//! # }
//! ```
//!
//! [`search`] chooses block by block, under a budget, what is left out or quantized, and [`cut`] writes a slice that was
//! chosen otherwise. [`plan`] says what a student costs before there is one, and [`from_scratch`] writes one that knows
//! nothing yet, with the teacher's text side.

mod config_json;
mod error;
mod measure;
mod planned;
mod scratch;
pub mod search;
mod student_folder;
mod tokenizer_files;
mod tokenizer_json;
mod vocabulary;

use std::path::Path;

use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::check_tensors;

pub use error::PruneError;
pub use lightglm_distill::student::{
    Importance, KeptTokens, Machine, Measure, Slice, StudentError, StudentShape, Wanted,
};
pub use measure::importance;
pub use planned::{
    PlanOptions, PlanReport, PlannedHours, SchemeBytes, config_of, plan, shape_of, this_machine,
};
pub use scratch::{ScratchOptions, from_scratch};
pub use student_folder::{CutOptions, ModelSize, cut};
pub use vocabulary::{KeepTokens, kept_tokens};

use crate::device::Device;
use crate::error::Error;
use crate::model::{Weights, is_packed};
use crate::progress::ProgressSink;
use crate::quantize::check_folder;

/// What a student is to be like, and what decides what it keeps.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// Its sizes; what is `None` stays the teacher's.
    pub wanted: Wanted,
    /// Leaves out tokens that none of these texts has; by default none is left out.
    pub vocabulary: Option<KeepTokens>,
    /// Tokens of a text of the kind that the student will meet; needed where layers, neurons, heads or channels go.
    pub calibration: Vec<u32>,
    /// Tokens that the model sees at once, by default 512; fewer where it was made for fewer.
    pub context: usize,
    /// What of a neuron's activations decides; by default the root of their mean square.
    pub neurons: Measure,
    /// Where the teacher runs.
    pub device: Device,
    /// Whether what is in the folder may be replaced; by default not.
    pub overwrite: bool,
    /// Told how far the work is.
    pub progress: ProgressSink,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            wanted: Wanted::default(),
            vocabulary: None,
            calibration: Vec::new(),
            context: 512,
            neurons: Measure::default(),
            device: Device::default(),
            overwrite: false,
            progress: ProgressSink::default(),
        }
    }
}

/// What was left out, and what is left.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneReport {
    /// The teacher.
    pub before: ModelSize,
    /// The student.
    pub after: ModelSize,
    /// The student's configuration.
    pub config: GlmConfig,
    /// What is left of the teacher.
    pub slice: Slice,
    /// What decided; `None` where nothing had to.
    pub importance: Option<Importance>,
}

/// Writes to `folder` what is left of the model of `checkpoint` when the parts that matter least on a text are gone.
///
/// * a folder in Hugging Face's layout stays one of the same layout and precision, with its own config.json, in which
///   sizes, lists of layers and ids of tokens are the student's; weights are one file
/// * a folder of ChatGLM's own code and a dense GGUF file become a folder of the `glm` that they are
///
/// All importance is measured on the whole teacher, at once. Where channels go, the weights of the norms are scaled by
/// what the mean square that they divide by loses with them ([`Importance::norm_scales`]), and `rms_norm_eps` with
/// them; everything else that is kept is kept to the bit. A student that keeps everything is the teacher.
///
/// One tensor is held at a time beside the model that is measured. config.json comes last, and where the work is broken
/// off or fails the folder is as it was.
///
/// # Errors
/// Before weights are read: [`Error::Prune`] for a quantized teacher and for a tokenizer whose vocabulary is not cut;
/// [`Error::Student`] for sizes that it has no student of, and without a text where one has to decide;
/// [`Error::FolderNotEmpty`], [`Error::FolderIsModel`]; [`Error::Weights`]. Then [`Error::Student`] for activations that
/// are not finite, [`Error::Model`], [`Error::Io`], [`Error::Interrupted`].
pub fn prune(
    checkpoint: &Checkpoint,
    options: &PruneOptions,
    folder: &Path,
) -> Result<PruneReport, Error> {
    let teacher = shape_of(checkpoint.config());
    let student = options.wanted.shape(&teacher)?;
    refuse_quantized(checkpoint)?;
    check_folder(folder, checkpoint.path(), options.overwrite)?;
    check_tensors(checkpoint.weights(), checkpoint.config(), checkpoint.path())?;
    let kept = options.vocabulary.as_ref();
    let kept = kept.map(|keep| kept_tokens(checkpoint, keep)).transpose()?;
    let importance = match student == teacher {
        true => None,
        false => Some(importance(checkpoint, options)?),
    };
    let mut slice = match &importance {
        None => Slice::whole(&teacher),
        Some(importance) => importance.slice(&teacher, &options.wanted)?,
    };
    if let Some(kept) = &kept {
        slice.vocabulary = kept.ids().iter().map(|&id| id as usize).collect();
    }
    let scales = importance.as_ref().map(|importance| importance.norm_scales(&slice.hidden));
    let cut_options = CutOptions {
        norm_scales: scales.unwrap_or_default(),
        overwrite: options.overwrite,
        progress: options.progress.clone(),
    };
    let (config, after) = cut(checkpoint, &slice, &cut_options, folder)?;
    let before = ModelSize::of(checkpoint)?;
    Ok(PruneReport { before, after, config, slice, importance })
}

/// Refuses a model that is held in codes or blocks: their groups cannot be taken apart.
fn refuse_quantized(checkpoint: &Checkpoint) -> Result<(), Error> {
    match is_packed(checkpoint, &Weights::Stored)? {
        true => Err(PruneError::Quantized { file: checkpoint.path().to_owned() }.into()),
        false => Ok(()),
    }
}
