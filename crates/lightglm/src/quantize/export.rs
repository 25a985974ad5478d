//! `export`: quantized models for vLLM and transformers, in the layouts of compressed-tensors.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lightglm_core::{ProjectionLayout, WeightDtype, WeightError, WeightSource, save_safetensors};
use lightglm_kernels::ScaleDtype;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{ADAPTERS_KEY, GlmConfig};
use lightglm_model::weights::SafetensorsCheckpoint;
use lightglm_quant::formats::FormatError;
use lightglm_quant::formats::compressed_tensors::{
    CompressedTensorsCheckpoint, CompressedTensorsConfig, CompressedTensorsScheme,
    export_compressed_tensors, snap_minimums,
};
use lightglm_quant::{QuantizedCheckpoint, round_to_nearest, to_f32};
use serde_json::{Map, Value};

use crate::adapted::{Adapted, TIED_KEY, matrix_of};
use crate::error::Error;
use crate::model::{is_imported, refuse_encoder};
use crate::progress::{Progress, ProgressSink};

/// Files that other programs look for beside the weights.
const COMPANIONS: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// A layout of compressed-tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// W8A8: INT8 weights per channel, INT8 activations per token.
    IntQuantized,
    /// W4A16: INT4 weights in groups.
    PackQuantized {
        /// Columns that share a scale.
        group_size: usize,
        /// Whether a group has a zero point.
        asymmetric: bool,
    },
}

/// How a model is exported.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The layout.
    pub format: ExportFormat,
    /// Whether `lm_head` is quantized too; by default not.
    pub lm_head: bool,
    /// The folder of a LoRA adapter in PEFT's layout, which is added to the weights before they are rounded; by
    /// default none.
    pub adapter: Option<PathBuf>,
    /// Whether a model in the folder may be replaced; by default not.
    pub overwrite: bool,
    /// Told how many layers are done.
    pub progress: ProgressSink,
}

impl ExportOptions {
    /// In this layout, `lm_head` as it is.
    pub fn new(format: ExportFormat) -> Self {
        let progress = ProgressSink::default();
        Self { format, lm_head: false, adapter: None, overwrite: false, progress }
    }
}

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportReport {
    /// The layout's name.
    pub format: &'static str,
    /// Matrices that were quantized.
    pub quantized_layers: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
}

/// Writes `checkpoint` to `folder`, rounded to nearest, in a layout that vLLM and transformers read.
///
/// The weights get their name when they are complete, config.json comes after them; where the work is
/// broken off or fails, nothing unfinished stays.
///
/// # Errors
/// [`Error::AlreadyQuantized`]; [`Error::FolderNotEmpty`] where there is a model already; [`Error::Peft`];
/// [`Error::Export`]; [`Error::Io`]; [`Error::Interrupted`].
pub fn export(
    checkpoint: &Checkpoint,
    options: &ExportOptions,
    folder: &Path,
) -> Result<ExportReport, Error> {
    if QuantizedCheckpoint::is_one(checkpoint.weights()) || is_imported(checkpoint)? {
        return Err(Error::AlreadyQuantized { file: checkpoint.path().to_owned() });
    }
    refuse_encoder(checkpoint, "exporting")?;
    if checkpoint.config().has_qk_norms() {
        // Written as our own type, nothing else would read it; as `glm`, others would drop its norms.
        return Err(Error::Export(FormatError::Unsupported {
            field: "model_type".to_owned(),
            value: "a model with norms of heads (qwen3)".to_owned(),
            supported: "what transformers has in GLM's layout: glm4, glm, llama, mistral or qwen2",
        }));
    }
    if !options.overwrite && folder.join("config.json").exists() {
        return Err(Error::FolderNotEmpty { folder: folder.to_owned() });
    }
    let adapted = Adapted::read(checkpoint, options.adapter.as_deref())?;
    let scheme = match options.format {
        ExportFormat::IntQuantized => CompressedTensorsScheme::W8A8,
        ExportFormat::PackQuantized { group_size, asymmetric } => {
            CompressedTensorsScheme::w4a16(group_size, !asymmetric)
        }
    };
    let mut weight_scheme = scheme.weight_scheme();
    if matches!(options.format, ExportFormat::PackQuantized { asymmetric: true, .. }) {
        // Scales that f16 holds, stored as f32: then zero points are exact on both sides.
        weight_scheme.scale_dtype = ScaleDtype::F16;
    }
    let ignore = if options.lm_head { vec![] } else { vec!["lm_head".to_owned()] };
    // What is rounded to codes is rounded once.
    let rounding = |name: &str, stored: WeightDtype| match is_layer(matrix_of(name), &ignore) {
        true => WeightDtype::F32,
        false => stored,
    };
    let merged = adapted.weights(checkpoint.weights(), &rounding);
    let weights = merged.source();
    let total = count_layers(weights, &ignore);
    let (mut layers, mut bytes) = (0, 0);
    let layers_done = std::cell::Cell::new(0_u64);
    let written = export_compressed_tensors(
        folder,
        weights,
        &config_json(checkpoint, adapted.config())?,
        &scheme,
        &ignore,
        &mut |layer| {
            let view = weights.tensor(&format!("{layer}.weight"))?;
            let shape = [view.shape[0], view.shape[1]];
            let mut matrix = round_to_nearest(layer, &to_f32(&view), shape, &weight_scheme)?;
            snap_minimums(&mut matrix);
            layers += 1;
            layers_done.set(layers as u64);
            Ok(matrix)
        },
        &mut |written| {
            bytes += written;
            let done = layers_done.get();
            options.progress.report(Progress::Working { doing: "exporting", done, total })
        },
    );
    written.map_err(|error| match error {
        FormatError::Weights(WeightError::Io { source, .. })
            if source.kind() == ErrorKind::Interrupted =>
        {
            Error::Interrupted { doing: "exporting" }
        }
        error => error.into(),
    })?;
    copy_companions(checkpoint, folder)?;
    Ok(ExportReport { format: scheme.format.name(), quantized_layers: layers, bytes })
}

/// Reads an export back and writes its dequantized weights to the safetensors file `file`, so that
/// other programs can be compared with it.
///
/// # Errors
/// [`Error::Export`], where `folder` holds no export; [`Error::Weights`].
pub fn write_dequantized(folder: &Path, file: &Path) -> Result<(), Error> {
    let config_file = folder.join("config.json");
    let io = |source| Error::Io { file: config_file.clone(), source };
    let text = fs::read(&config_file).map_err(io)?;
    let Some(config) = CompressedTensorsConfig::from_config_json(&text)? else {
        return Err(io(std::io::Error::new(
            ErrorKind::InvalidData,
            "there is no quantization_config of compressed-tensors",
        )));
    };
    let weights = SafetensorsCheckpoint::open(folder)?;
    let source = CompressedTensorsCheckpoint::new(&weights, config, folder);
    Ok(save_safetensors(file, &source, &BTreeMap::new())?)
}

/// The model's config.json: its own, where that describes the weights of `config`.
fn config_json(checkpoint: &Checkpoint, config: &GlmConfig) -> Result<Map<String, Value>, Error> {
    let file = checkpoint.path().join("config.json");
    let malformed =
        |source: serde_json::Error| Error::Io { file: file.clone(), source: source.into() };
    if !checkpoint.is_translated() {
        let text = fs::read(&file).map_err(|source| Error::Io { file: file.clone(), source })?;
        let mut json: Map<_, _> = serde_json::from_slice(&text).map_err(malformed)?;
        if checkpoint.config().tie_word_embeddings != config.tie_word_embeddings {
            json.insert(TIED_KEY.to_owned(), config.tie_word_embeddings.into());
        }
        return Ok(json);
    }
    // A GGUF file names some of the tokens that end a reply in its vocabulary alone.
    let eos_token_ids = checkpoint.eos_token_ids()?;
    let config = GlmConfig { eos_token_ids, ..config.clone() };
    let mut json: Map<_, _> = serde_json::from_str(&config.to_json()).map_err(malformed)?;
    if checkpoint.adapter_layout() != ProjectionLayout::Glm {
        json.insert(ADAPTERS_KEY.to_owned(), "llama".into());
    }
    Ok(json)
}

fn is_layer(name: &str, ignore: &[String]) -> bool {
    !name.ends_with("embed_tokens") && !ignore.iter().any(|ignored| ignored == name)
}

/// Matrices that will be quantized.
fn count_layers(weights: &dyn WeightSource, ignore: &[String]) -> u64 {
    let names = weights.names().into_iter();
    let layers = names.filter(|name| {
        let matrix = weights.shape(name).is_some_and(|shape| shape.len() == 2);
        let layer = name.strip_suffix(".weight");
        matrix && layer.is_some_and(|layer| is_layer(layer, ignore))
    });
    layers.count() as u64
}

/// What the tokenizer and the generation need: a folder's files, or what a GGUF file's vocabulary stands for.
fn copy_companions(checkpoint: &Checkpoint, folder: &Path) -> Result<(), Error> {
    let model = checkpoint.path();
    if !model.is_dir() {
        for (name, bytes) in checkpoint.text_files()? {
            let (partial, file) = (folder.join(format!(".{name}.partial")), folder.join(name));
            let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, &file));
            written.map_err(|source| Error::Io { file, source })?;
        }
    }
    for name in COMPANIONS {
        let (from, to) = (model.join(name), folder.join(name));
        let is_other = || from.canonicalize().ok() != to.canonicalize().ok();
        if from.is_file() && is_other() {
            fs::copy(&from, &to).map_err(|source| Error::Io { file: from.clone(), source })?;
        }
    }
    Ok(())
}
