//! Quantized models as folders: [`quantize()`] for [`Model::open`](crate::Model::open), [`export()`]
//! for vLLM and transformers.

mod calibrated;
mod codes;
mod export;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use codes::{CalibratedMethod, Codes};
pub use export::{ExportFormat, ExportOptions, ExportReport, export, write_dequantized};
use lightglm_core::WeightDtype;
use lightglm_model::checkpoint::Checkpoint;
pub use lightglm_quant::Footprint;
use lightglm_quant::{
    CheckpointQuantizer, DenseMatrix, PackedIndex, Policy, QuantizedCheckpoint, Scheme,
    round_to_nearest,
};

use crate::adapted::{Adapted, matrix_of};
use crate::error::Error;
use crate::model::{Model, interrupted, is_imported, matrices, refuse_encoder};
use crate::model_folder::ModelFolder;
use crate::progress::{Progress, ProgressSink, QUANTIZING};

/// How a model is quantized.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// The scheme of each matrix; by default int8 for all.
    pub policy: Policy,
    /// How codes are chosen; by default by rounding to nearest.
    pub codes: Codes,
    /// The folder of a LoRA adapter in PEFT's layout, which is added to the dense weights while they are read,
    /// before anything is calibrated or rounded; by default none.
    pub adapter: Option<PathBuf>,
    /// Whether what is in the folder may be replaced; by default not.
    pub overwrite: bool,
    /// Told how far the work is ([`Working`](crate::Progress::Working) while calibrating, then
    /// [`Quantizing`](crate::Progress::Quantizing)).
    pub progress: ProgressSink,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            policy: Policy::uniform(Scheme::INT8),
            codes: Codes::default(),
            adapter: None,
            overwrite: false,
            progress: ProgressSink::default(),
        }
    }
}

impl From<Policy> for QuantizeOptions {
    fn from(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }
}

/// What became of a model's matrices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizeReport {
    /// How many matrices have which scheme, in the order of the model.
    pub schemes: Vec<(Scheme, usize)>,
    /// Weights and bytes of all matrices as the checkpoint stores them.
    pub before: Footprint,
    /// And as the folder does.
    pub after: Footprint,
}

/// Writes `checkpoint`, quantized, to `folder`, which is made where it is not there.
///
/// Weights are read and written one matrix at a time; config.json comes last, and where the work is
/// broken off or fails the folder is as it was. Codes chosen on a text need the whole dense model in
/// memory, on the CPU.
///
/// ```no_run
/// use lightglm::quantize::{QuantizeOptions, quantize};
/// use lightglm::{LoadOptions, Model, checkpoint};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let checkpoint = checkpoint::open("glm-4-9b-0414", &Default::default())?;
/// let policy = "lm_head=int8,*=int4".parse::<lightglm::Policy>()?;
/// let report = quantize(&checkpoint, &QuantizeOptions::from(policy), "glm-4-9b-int4".as_ref())?;
/// println!("{:.2} bits per weight", report.after.bits_per_weight());
/// let model = Model::open("glm-4-9b-int4", LoadOptions::default())?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Before anything is read: [`Error::AlreadyQuantized`]; [`Error::Policy`] for a rule that names no
/// matrix; [`Error::FolderNotEmpty`], [`Error::FolderIsModel`]; [`Error::Io`]; [`Error::Peft`]. Then
/// [`Error::Calibration`], [`Error::Quantization`], [`Error::Interrupted`].
pub fn quantize(
    checkpoint: &Checkpoint,
    options: &QuantizeOptions,
    folder: &Path,
) -> Result<QuantizeReport, Error> {
    let QuantizeOptions { policy, codes, adapter, overwrite, progress } = options;
    if QuantizedCheckpoint::is_one(checkpoint.weights()) || is_imported(checkpoint)? {
        return Err(Error::AlreadyQuantized { file: checkpoint.path().to_owned() });
    }
    refuse_encoder(checkpoint, "quantizing to a folder")?;
    let adapted = Adapted::read(checkpoint, adapter.as_deref())?;
    let config = adapted.config();
    let names = matrices(config);
    policy.check_names(names.iter().map(|(name, _)| name.as_str()))?;
    check_folder(folder, checkpoint.path(), *overwrite)?;
    // Made before the long work, so that a folder that cannot be written to is found out first.
    let output = ModelFolder::begin_as(folder, checkpoint, config.clone(), Some(policy))?;
    // What is rounded to codes is rounded once.
    let rounding = |name: &str, stored: WeightDtype| match policy.scheme(matrix_of(name)) {
        Scheme::Dense => stored,
        Scheme::Quantized(_) => WeightDtype::F32,
    };
    let merged = adapted.weights(checkpoint.weights(), &rounding);
    let source = merged.source();
    let chosen = match codes {
        Codes::Nearest => BTreeMap::new(),
        Codes::Calibrated { method, tokens } => {
            let model = (config, source, checkpoint.path());
            calibrated::calibrated(model, policy, *method, tokens, progress)?
        }
    };
    let tensors = config.tensor_shapes();
    let elements = |(_, shape): &(String, Vec<usize>)| shape.iter().product::<usize>() as u64;
    let total = tensors.iter().map(elements).sum();
    let tell = progress.weights(|done| Progress::Quantizing { done, total });
    let codes_of = |dense: &DenseMatrix<'_>| match chosen.get(dense.name) {
        Some(matrix) => Ok(matrix.clone()),
        None => round_to_nearest(dense.name, dense.weight, dense.shape, &dense.scheme.weight),
    };
    let mut quantizer =
        CheckpointQuantizer::new(source, checkpoint.path(), policy).with_progress(&tell);
    if !chosen.is_empty() {
        quantizer = quantizer.with_method(&codes_of);
    }
    let saved = quantizer.save(&output.weights(), &tensors);
    saved.map_err(|error| interrupted(error, QUANTIZING))?;
    output.finish()?;
    let written = Checkpoint::open(folder)?;
    let written = QuantizedCheckpoint::open(written.weights(), folder)?;
    Ok(QuantizeReport {
        schemes: schemes(written.index(), names.iter().map(|(name, _)| name.as_str())),
        before: stored_footprint(checkpoint)?,
        after: written.footprint()?,
    })
}

impl Model {
    /// Writes the model's checkpoint, quantized, to `folder`: as [`quantize()`].
    ///
    /// # Errors
    /// As [`quantize()`].
    pub fn quantize(
        &self,
        folder: impl AsRef<Path>,
        options: &QuantizeOptions,
    ) -> Result<QuantizeReport, Error> {
        quantize(self.checkpoint(), options, folder.as_ref())
    }
}

/// Refuses a folder that holds something, unless told otherwise, and the model's own in any case.
pub(crate) fn check_folder(folder: &Path, model: &Path, overwrite: bool) -> Result<(), Error> {
    let named = || folder.to_owned();
    let mut entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Io { file: named(), source }),
    };
    if folder.canonicalize().ok() == model.canonicalize().ok() {
        return Err(Error::FolderIsModel { folder: named() });
    }
    match entries.next() {
        Some(_) if !overwrite => Err(Error::FolderNotEmpty { folder: named() }),
        _ => Ok(()),
    }
}

/// How many of `names` have which scheme in the file, in their order.
fn schemes<'a>(index: &PackedIndex, names: impl Iterator<Item = &'a str>) -> Vec<(Scheme, usize)> {
    let mut counts: Vec<(Scheme, usize)> = Vec::new();
    for scheme in names.filter_map(|name| Some(index.entry(name)?.scheme)) {
        match counts.iter_mut().find(|(known, _)| *known == scheme) {
            Some((_, count)) => *count += 1,
            None => counts.push((scheme, 1)),
        }
    }
    counts
}

/// What the matrices of a checkpoint take on disk.
fn stored_footprint(checkpoint: &Checkpoint) -> Result<Footprint, Error> {
    let (source, mut footprint) = (checkpoint.weights(), Footprint::default());
    for (name, [n, k]) in matrices(checkpoint.config()) {
        for rows in source.stored_rows(&format!("{name}.weight"))? {
            footprint.bytes += rows.parts.iter().map(|part| part.len() as u64).sum::<u64>();
        }
        footprint.weights += n as u64 * k as u64;
    }
    Ok(footprint)
}
