//! LoRA adapters merged into models: folders that need no adapter any more.

mod converted;
mod packed;
mod shards;

use std::path::Path;

use lightglm_core::{ProjectionLayout, WeightDtype};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::WeightLayout;
use lightglm_quant::QuantizedCheckpoint;
use lightglm_train::lora::{Lora, MergedWeights};

use crate::error::Error;
use crate::model::{imported, read_adapter, refuse_encoder};
use crate::progress::ProgressSink;
use crate::quantize::check_folder;

/// What a merge is called in progress and interruptions.
const DOING: &str = "merging";

/// How an adapter is merged.
#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    /// The precision of matrices that come out of blocks or codes (a GGUF file, compressed-tensors, GPTQ, AWQ); by
    /// default f32, which loses nothing. Other folders keep theirs, that of ChatGLM's own code if omitted.
    pub dtype: Option<WeightDtype>,
    /// Whether what is in the folder may be replaced; by default not.
    pub overwrite: bool,
    /// Told how far the work is, in weights.
    pub progress: ProgressSink,
}

/// What was merged.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeReport {
    /// Tensors of the model that are others than before.
    pub merged: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Whether the model's head, which was its table of embeddings, is one of its own now.
    pub untied: bool,
    /// What rounding cost where matrices were quantized again; `None` where none was.
    pub requantized: Option<Requantized>,
}

/// What it cost to quantize merged matrices again.
///
/// An update that is small beside a step of the codes is lost in part: the share says how much.
#[derive(Clone, Debug, PartialEq)]
pub struct Requantized {
    /// Matrices that were quantized again.
    pub matrices: usize,
    /// The norm of what rounding changed, as a share of the norm of what the adapter changed, over all of them.
    pub error_of_update: f64,
    /// The norm of what rounding changed, as a share of the norm of the weights.
    pub error_of_weights: f64,
    /// The largest change of a weight by rounding.
    pub largest: f32,
    /// The matrix that lost the largest share of its update, and that share.
    pub worst: (String, f64),
}

/// Writes the model of `checkpoint` with the adapter in the folder `adapter` (PEFT's layout) added to its
/// weights, `W + scale B A` in f32, rounded once, to `folder`, which is made where it is not there.
///
/// * a folder in Hugging Face's layout, dense: the same files with the same names, shards and precision, and its
///   own config.json, which other programs read as they read the original
/// * a folder that [`quantize`](crate::quantize::quantize()) wrote: what the adapter touches is dequantized, merged
///   and rounded to nearest in the scheme that it had; everything else stays as it is, to the bit
/// * a GGUF file, compressed-tensors, GPTQ, AWQ: a dense folder, in [`MergeOptions::dtype`]
/// * a folder of ChatGLM's own code: a dense folder of the `glm` that it is, by default in the precision that it has
///
/// One tensor is held at a time. config.json comes last, and where the work is broken off or fails the folder is as
/// it was.
///
/// ```no_run
/// use lightglm::merge::{MergeOptions, merge};
/// # fn main() -> Result<(), lightglm::Error> {
/// let base = lightglm::checkpoint::open("glm-4-9b-0414", &Default::default())?;
/// let report = merge(&base, "adapters/shop".as_ref(), &MergeOptions::default(), "shop".as_ref())?;
/// println!("{} tensors merged", report.merged);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Before weights are read: [`Error::Peft`]; [`Error::FolderNotEmpty`], [`Error::FolderIsModel`]; [`Error::Option`]
/// for a `dtype` of a folder that keeps its own; [`Error::Adapter`] for an adapter that a quantized folder has no
/// place for. Then [`Error::Io`], [`Error::Weights`], [`Error::Quantization`], [`Error::Interrupted`].
pub fn merge(
    checkpoint: &Checkpoint,
    adapter: &Path,
    options: &MergeOptions,
    folder: &Path,
) -> Result<MergeReport, Error> {
    refuse_encoder(checkpoint, "merging")?;
    let lora = read_adapter(checkpoint, adapter)?;
    check_folder(folder, checkpoint.path(), options.overwrite)?;
    if QuantizedCheckpoint::is_one(checkpoint.weights()) {
        refuse_dtype(options)?;
        return packed::merge(checkpoint, &lora, options, folder);
    }
    if let Some(layers) = imported(checkpoint)? {
        return converted::merge(checkpoint, &*layers, &lora, options, folder);
    }
    let layout = match checkpoint.folder_layout() {
        None => return converted::merge(checkpoint, checkpoint.weights(), &lora, options, folder),
        // What it fuses is several of the decoder's.
        Some(WeightLayout::ChatGlm) => {
            let dtype = Some(options.dtype.map_or_else(|| checkpoint.stored_dtype(), Ok)?);
            let options = MergeOptions { dtype, ..options.clone() };
            return converted::merge(checkpoint, checkpoint.weights(), &lora, &options, folder);
        }
        Some(WeightLayout::Glm | WeightLayout::GlmInMedia) => ProjectionLayout::Glm,
        Some(WeightLayout::Llama | WeightLayout::LlamaInMedia) => {
            ProjectionLayout::Llama { head_dim: checkpoint.config().head_dim }
        }
    };
    refuse_dtype(options)?;
    shards::merge(checkpoint, layout, &lora, options, folder)
}

fn refuse_dtype(options: &MergeOptions) -> Result<(), Error> {
    match options.dtype {
        None => Ok(()),
        Some(_) => {
            let reason = "this folder keeps the precision that it has".to_owned();
            Err(Error::Option { option: "dtype", reason })
        }
    }
}

/// How many of `names` the adapter changes, which is one at least.
fn count(merged: &MergedWeights<'_>, names: &[String], lora: &Lora) -> Result<usize, Error> {
    match names.iter().filter(|name| merged.is_merged(name)).count() {
        0 => Err(Error::Adapter {
            name: lora.name().to_owned(),
            reason: "changes no tensor of the model's files".to_owned(),
        }),
        count => Ok(count),
    }
}

/// Whether the model's head becomes its own.
fn unties(checkpoint: &Checkpoint, lora: &Lora) -> bool {
    checkpoint.config().tie_word_embeddings && lora.unties()
}
